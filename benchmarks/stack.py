"""Real parts for a benchmark: Redis, Triton, one consumer process, a folder as storage; on free ports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.jobs import Job, JobStore, NewJob, open_store
from shared.jobs.model import new_id
from shared.storage import Storage, open_storage
from tests.fixtures.redis import RedisServer, free_port
from tests.fixtures.triton import Triton, copy_models, running_triton

PREFIX = "{bench}:"
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Stack:
    """The running parts."""

    store: JobStore
    storage: Storage
    triton: Triton
    redis: RedisServer
    folder: Path

    @contextlib.asynccontextmanager
    async def consumer(self, **settings: str) -> AsyncIterator[subprocess.Popen[bytes]]:
        """Run a consumer process, with further environment variables, for the time of the context."""
        health = free_port()
        environment = {
            **os.environ,
            "KIOSK_REDIS__URL": self.redis.url,
            "KIOSK_REDIS__PREFIX": PREFIX,
            "KIOSK_STORAGE__URL": f"file://{self.folder}/storage",
            "KIOSK_MODEL_SERVER__URL": self.triton.url,
            "KIOSK_SCRATCH": f"{self.folder}/scratch",
            "KIOSK_HEALTH__PORT": str(health),
            "KIOSK_TELEMETRY__LOG_LEVEL": "warning",
            **settings,
        }
        with (self.folder / "consumer.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.consumer"], env=environment, stdout=log, stderr=log
            )
        try:
            await _ready(process, health)
            yield process
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 60)

    async def submit(
        self, content: bytes, name: str, count: int, job_type: str = "segmentation", **facts: str
    ) -> list[str]:
        """Store a file once and submit jobs that read it; return their ids."""
        key = f"uploads/{new_id('x').partition(':')[2]}{Path(name).suffix}"
        await self.storage.put(key, content)
        facts = {"input_file_name": key, "original_name": name, "options": "{}", **facts}
        jobs = [NewJob(new_id(job_type), facts, uses=(key,)) for _ in range(count)]
        return [answer.id for answer in await self.store.submit(*jobs)]

    async def finished(self, ids: Sequence[str], timeout: float = 900) -> list[Job]:
        """Wait until jobs have ended; raise if one has failed. Asks for one at a time: looking costs time, too."""
        jobs = []
        async with asyncio.timeout(timeout):
            for each in ids:
                while not ((job := await self.store.get(each)) and job.final):
                    await asyncio.sleep(0.02)
                jobs.append(job)
        for job in jobs:
            if job.status != "done":
                raise RuntimeError(f"{job.id} is {job.status}: {job.fields.get('reason')}")
        return jobs


@contextlib.asynccontextmanager
async def running_stack(folder: Path, *models: str, options: Sequence[str] = ()) -> AsyncIterator[Stack]:
    """Run Redis and Triton with the named models for the time of the context."""
    redis = RedisServer(folder / "redis").start()
    store = open_store(redis.url, PREFIX)
    storage = open_storage(f"file://{folder}/storage")
    try:
        with running_triton(copy_models(folder / "models", *models), folder / "triton.log", *options) as triton:
            yield Stack(store, storage, triton, redis, folder)
    finally:
        await store.aclose()
        await storage.aclose()
        redis.stop()


async def _ready(process: subprocess.Popen[bytes], port: int) -> None:
    async with asyncio.timeout(60):
        while process.poll() is None:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/readyz", timeout=5)
                return
            await asyncio.sleep(0.05)
    raise RuntimeError("The consumer ended at its start; see consumer.log.")


def family(pid: int) -> Iterator[int]:
    """Yield a process and all that it started."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            with contextlib.suppress(OSError):
                yield from family(int(child))


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that one process has used; 0 where it is gone."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / _TICK
    return 0.0


def own_memory(pid: int) -> float:
    """Return the MB of anonymous and shared memory (not of mapped files) of a process and its children now."""
    total = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{each}/status").read_text().splitlines():
                if line.startswith(("RssAnon", "RssShmem")):
                    total += int(line.split()[1])
    return total / 1024


def model_busy_seconds(triton: Triton, model: str) -> float:
    """Return the seconds in which a model's network itself ran: less than the time in which it had work."""
    with urllib.request.urlopen(f"http://127.0.0.1:{triton.metrics_port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    counted = re.compile(rf'^kiosk_network_seconds{{[^}}]*model="{model}"[^}}]*}} (\S+)', re.MULTILINE)
    return sum(map(float, counted.findall(text)))


async def watch_memory(pid: int, most: list[float]) -> None:
    """Keep the largest memory of their own seen of a process and its children in ``most[0]`` until cancelled."""
    while True:
        most[0] = max(most[0], await asyncio.to_thread(own_memory, pid))
        await asyncio.sleep(0.05)
