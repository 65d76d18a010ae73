"""Commands that look into the job store, on a real Redis and a real folder of objects."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.console.commands import main
from shared.auth.keys import KeyStore
from shared.jobs import JobStore, JobType, NewJob
from shared.jobs.model import new_id
from tests.fixtures.redis import RedisServer
from tests.fixtures.suite import ROOT


class Console:
    """The command in this process, in a thread of its own; the shell replaces the process, so it gets a real one."""

    def __init__(
        self, environment: dict[str, str], patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.environment = environment
        self._patch = patch
        self._capsys = capsys

    async def __call__(self, *words: str, code: int = 0, **more: str) -> str:
        with self._patch.context() as patch:
            for name, value in {**self.environment, **more}.items():
                patch.setenv(name, value)
            assert await asyncio.to_thread(main, words) == code
        told = self._capsys.readouterr()
        return told.out + told.err


@pytest.fixture
def kiosk(
    redis_server: RedisServer,
    prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Console:
    environment = {
        "KIOSK_PYTHON": sys.executable,
        "KIOSK_REDIS__URL": redis_server.url,
        "KIOSK_REDIS__PREFIX": prefix,
        "KIOSK_STORAGE__URL": (tmp_path / "my storage").as_uri(),
        "KIOSK_DATA": str(tmp_path / "data"),
    }
    return Console(environment, monkeypatch, capsys)


async def test_keys_are_made_listed_and_revoked(kiosk: Console, store: JobStore) -> None:
    made = await kiosk("keys", "create", "fiji", "--scope", "read", "--days", "2")
    text = re.search(r"ck_\S+", made)
    assert text is not None
    key = await KeyStore(store.redis, store.prefix).verify(text.group())
    assert key is not None
    assert (key.name, key.scopes) == ("fiji", ("read",))
    listed = await kiosk("keys", "list")
    assert key.id in listed
    assert "in 47 h 59 min" in listed or "in 48 h 00 min" in listed
    assert "out of force" in await kiosk("keys", "revoke", key.id)
    assert "There is no API key" in await kiosk("keys", "revoke", key.id, code=2)


async def test_the_audit_finds_what_is_broken_and_mends_it(kiosk: Console, store: JobStore) -> None:
    await store.submit(NewJob(new_id("segmentation")))
    assert "Nothing is wrong." in await kiosk("audit")
    await store.redis.set(f"{store.prefix}depth:segmentation", "7")
    told = json.loads((await kiosk("audit", "--json", code=1)).splitlines()[0])
    assert "segmentation" in told["subject"]
    assert "repaired" in await kiosk("audit", "--repair")
    assert "Nothing is wrong." in await kiosk("audit")


async def test_the_audit_knows_every_key_of_the_table(kiosk: Console, store: JobStore) -> None:
    await store.announce(JobType("segmentation"))
    await store.announce_models({"Nuclear": ["1"]})
    keys = KeyStore(store.redis, store.prefix)
    await keys.create("fiji")
    await keys.cookie_secret()
    await store.redis.set(f"{store.prefix}spent:ann:1", "1")
    await store.redis.hset(f"{store.prefix}usage:2031-01-01", "jobs:ann", "1")
    await store.redis.zadd(f"{store.prefix}webhooks", {new_id("segmentation"): 1})
    assert "Nothing is wrong." in await kiosk("audit")


async def test_status_counts_what_waits(kiosk: Console, store: JobStore) -> None:
    await store.announce(JobType("segmentation"))
    await store.submit(*(NewJob(new_id("segmentation")) for _ in range(3)))
    seen = json.loads(await kiosk("status", "--json"))
    assert seen["queues"][0] | {"oldest_age": 0} == {
        "type": "segmentation",
        "waiting": 3,
        "running": 0,
        "delayed": 0,
        "dead": 0,
        "oldest_age": 0,
        "owners": 1,
    }


async def test_status_tells_what_owners_spent(kiosk: Console, store: JobStore) -> None:
    for owner, seconds in (("ann", "3600"), ("ann", "1800"), ("ben:x", "900")):
        await store.submit(NewJob(new_id("segmentation"), owner=owner))
        claim = await store.claim("worker", ["segmentation"], 1, 15.0)
        facts = {"gpu_seconds": seconds, "cpu_seconds": "7200", "bytes_in": "1000000000", "bytes_out": "0"}
        await store.complete("worker", (claim.jobs[0].held, facts))
    machines = {
        "KIOSK_COST__GPU_MACHINE": "n1-highmem-2,nvidia-tesla-t4",
        "KIOSK_COST__CPU_MACHINE": "n1-standard-4",
    }
    spend = json.loads(await kiosk("status", "--json", **machines))["spend"]
    ann, ben = spend["owners"]
    assert (ann["owner"], ann["jobs"], ben["owner"]) == ("ann", 2, "ben:x")
    worth = 1.5 * (0.1184 + 0.95) + 4 * 0.19 / 4 + 2 * 0.01
    assert ann["sum"] == {
        "gpu_hours": pytest.approx(1.5),
        "cpu_hours": pytest.approx(4),
        "bytes": 2e9,
        "cost": pytest.approx(worth),
    }
    told = await kiosk("status", **machines)
    assert re.search(rf"^ann +2 +1 h 30 min .*{worth:.4f}", told, re.MULTILINE)
    assert "prices are of June 2019" in told
    assert "KIOSK_COST__GPU_MACHINE" in await kiosk("status")
    machines["KIOSK_COST__CPU_MACHINE"] = "e9-huge-1"
    assert "no price for the machine 'e9-huge-1'" in await kiosk("status", code=2, **machines)


async def test_the_doctor_names_what_is_wrong_and_what_to_do(kiosk: Console, store: JobStore) -> None:
    await store.submit(NewJob(new_id("segmentation")))
    await store.redis.set(f"{store.prefix}schema", "1")

    async def health(_request: web.Request) -> web.Response:
        return web.json_response({"message": "OK"})

    app = web.Application()
    app.add_routes([web.get("/api/health-check", health)])
    server = TestServer(app)
    await server.start_server()
    url = str(server.make_url("")).rstrip("/")
    told = json.loads(await kiosk("doctor", "--json", code=1, KIOSK_PUBLIC_URL=url))
    await server.close()
    by_part = {(finding["part"], finding["state"]): finding for finding in told}
    assert "1 jobs of 'segmentation' wait and no worker" in by_part["workers", "failed"]["sentence"]
    assert "appendonly is 'no'" in " ".join(finding["sentence"] for finding in told)
    assert ("frontend", "ok") in by_part
    assert ("storage", "ok") in by_part
    assert any("are free in" in finding["sentence"] and "my storage" in finding["sentence"] for finding in told)
    assert all(finding["remedy"] for finding in told if finding["state"] != "ok")


async def test_the_doctor_of_nothing_says_how_to_begin(kiosk: Console) -> None:
    kiosk.environment.pop("KIOSK_REDIS__URL")
    told = await kiosk("doctor", code=1)
    assert "No suite runs with the data in" in told
    assert "kiosk up" in told
    assert "No suite runs" in await kiosk("status", code=2)


async def test_a_redis_that_is_away_is_one_sentence(kiosk: Console) -> None:
    told = await kiosk("status", code=1, KIOSK_REDIS__URL="redis://127.0.0.1:1/0")
    assert told.strip() == "kiosk: The job store (Redis) cannot be reached right now."


async def test_costs_are_divided_among_owners(kiosk: Console, store: JobStore) -> None:
    for owner, seconds in (("ann", "600"), ("ben", "300")):
        job_id = new_id("segmentation")
        await store.submit(NewJob(job_id, owner=owner))
        claim = await store.claim("worker", ["segmentation"], 1, 15.0)
        await store.complete("worker", (claim.jobs[0].held, {"gpu_seconds": seconds, "cpu_seconds": "1"}))
    told = await kiosk("costs", "--hours", "1", "--machine", "n1-standard-1,nvidia-tesla-t4")
    price = 0.0475 + 0.95
    shares = {name: float(money) for name, money in re.findall(r"^(ann|ben|idle)\s+([\d.]+)", told, re.MULTILINE)}
    expected = {"ann": price / 6, "ben": price / 12, "idle": price * 0.75}
    assert shares == {name: pytest.approx(money, abs=1e-4) for name, money in expected.items()}
    assert "prices are of June 2019" in told
    assert "name --prometheus or --machine" in await kiosk("costs", code=2)


async def test_the_shell_knows_where_the_suite_is(kiosk: Console, redis_server: RedisServer) -> None:
    script = Path(kiosk.environment["KIOSK_DATA"]).parent / "shell"
    script.write_text('#!/bin/sh\necho "$KIOSK_REDIS__URL"; command -v kiosk\n')
    script.chmod(0o755)
    variables = {**os.environ, **kiosk.environment, "SHELL": str(script)}
    command = [str(ROOT / "kiosk"), "shell"]
    done = await asyncio.to_thread(
        subprocess.run, command, env=variables, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert redis_server.url in done.stdout
    assert str(ROOT / "kiosk") in done.stdout
