"""A log that ends within a script, as a killed server may leave it, costs nothing at later starts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from services.janitor.log import Log
from shared.jobs import JobStore, NewJob, open_store
from shared.jobs.audit import audit
from shared.jobs.model import new_id
from tests.fixtures.redis import RedisServer

TYPE = "noop"


@pytest.fixture
async def lasting(own_redis: RedisServer) -> AsyncIterator[JobStore]:
    async with aclosing(open_store(own_redis.url, "{log}:")) as store:
        yield store


async def rewritten(store: JobStore) -> None:
    """Wait until no rewriting is under way or to come."""
    async with asyncio.timeout(60):
        while True:
            state = await store.redis.info("persistence")
            if not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]:
                assert state["aof_last_bgrewrite_status"] == "ok"
                return


async def number_of_the_log(store: JobStore) -> int:
    """Each rewriting raises it."""
    folder = Path((await store.redis.config_get("dir"))["dir"]) / "appendonlydir"
    return max(int(path.name.split(".")[2]) for path in folder.glob("*.base.*"))


def tear(server: RedisServer) -> None:
    """Cut the last script in the log in two, as a server that is killed while it writes does."""
    (log,) = (server.folder / "appendonlydir").glob("*.incr.aof")
    content = log.read_bytes()
    os.truncate(log, content.rindex(b"HSET") + 20)


async def test_half_a_script_at_the_end_of_the_log_is_never_taken_for_the_begin_of_the_next(
    lasting: JobStore, own_redis: RedisServer
) -> None:
    """Servers exist that leave the half where it is when they start, and run it at the start after that."""
    jobs = [NewJob(new_id(TYPE)) for _ in range(6)]
    await lasting.submit(*jobs)
    await lasting.claim("w1", [TYPE], 3, 60)
    own_redis.stop(kill=True)
    tear(own_redis)
    own_redis.start()
    await Log(lasting, "janitor").round()
    await rewritten(lasting)
    first = (await lasting.claim("w2", [TYPE], 3, 60)).jobs
    own_redis.stop(kill=True)
    own_redis.start()
    second = (await lasting.claim("w2", [TYPE], 9, 60)).jobs
    assert [job.id for job in (*first, *second)] == [job.id for job in jobs]
    assert await audit(lasting) == []


async def test_the_log_is_written_anew_once_after_each_start(lasting: JobStore, own_redis: RedisServer) -> None:
    await lasting.submit(NewJob(new_id(TYPE)))
    keepers = [Log(lasting, name) for name in ("j1", "j2")]
    numbers = []
    for _ in range(2):
        for keeper in (*keepers, *keepers):
            await keeper.round()
            await rewritten(lasting)
        numbers.append(await number_of_the_log(lasting))
        own_redis.stop(kill=True)
        own_redis.start()
    assert numbers[1] - numbers[0] == 1


async def test_without_a_log_or_the_right_to_it_nothing_happens(redis_server: RedisServer, store: JobStore) -> None:
    assert await store.rewrite_log() == ""
    assert (await store.redis.info("persistence"))["aof_enabled"] == 0
