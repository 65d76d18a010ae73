"""The janitor as the process that people start."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

from shared.jobs import JobStore, NewJob
from shared.jobs.model import new_id
from tests.fixtures.redis import RedisServer, free_port

TYPE = "segmentation"


def environment(url: str, prefix: str, folder: Path, **more: str) -> dict[str, str]:
    return os.environ | {
        "KIOSK_REDIS__URL": url,
        "KIOSK_REDIS__PREFIX": prefix,
        "KIOSK_STORAGE__URL": f"file://{folder}/storage",
        "KIOSK_HEALTH__PORT": "0",
        "KIOSK_TELEMETRY__LOG_FORMAT": "json",
        **more,
    }


@contextlib.asynccontextmanager
async def janitor(variables: dict[str, str], *arguments: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.janitor", *arguments, env=variables, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def event(process: Process, name: str) -> dict[str, str]:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        async for line in process.stdout:
            told: dict[str, str] = json.loads(line)
            if told["event"] == name:
                return told
    raise AssertionError(f"The janitor ended without {name}.")


async def test_it_takes_back_a_job_and_stops_when_asked(
    store: JobStore, redis_server: RedisServer, prefix: str, tmp_path: Path
) -> None:
    await store.submit(NewJob(new_id(TYPE)))
    (job,) = (await store.claim("w1", [TYPE], 1, 0.01)).jobs
    async with janitor(environment(redis_server.url, prefix, tmp_path)) as process:
        told = await event(process, "job-taken-back")
        assert (told["job"], told["outcome"]) == (job.id, "requeued")
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert b"service-stopped" in out


async def test_it_waits_for_a_redis_that_is_not_there_yet(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    async with janitor(environment(server.url, "{kiosk}:", tmp_path, KIOSK_HEALTH__PORT=str(free_port()))) as process:
        await event(process, "redis-awaited")
        try:
            await asyncio.to_thread(server.start)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):
                await process.communicate()
        finally:
            server.stop(kill=True)
    assert process.returncode == 0


async def test_a_dry_run_ends_by_itself(
    store: JobStore, redis_server: RedisServer, prefix: str, tmp_path: Path
) -> None:
    await store.submit(NewJob(new_id(TYPE)))
    (job,) = (await store.claim("w1", [TYPE], 1, 0.001)).jobs
    async with janitor(environment(redis_server.url, prefix, tmp_path), "--dry-run") as process:
        async with asyncio.timeout(30):
            out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert f"would take back {job.id}" in out.decode()
    assert "1 things to do; nothing was changed." in out.decode()


async def test_trouble_is_one_sentence(tmp_path: Path) -> None:
    away = f"redis://127.0.0.1:{free_port()}/0"
    async with janitor(environment(away, "{kiosk}:", tmp_path), "--dry-run") as process:
        _out, err = await process.communicate()
    assert (process.returncode, err.decode()) == (
        1,
        "janitor: The job store (Redis) cannot be reached right now.\n",
    )
    async with janitor(environment(away, "kiosk", tmp_path)) as process:
        _out, err = await process.communicate()
    assert process.returncode == 2
    assert err.decode().startswith("janitor: The key prefix is 'kiosk'")
