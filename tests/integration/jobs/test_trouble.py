"""Redis in trouble: the store says `Retry`, writes nothing by halves, and everything heals without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.consumer.worker import Capacity, Done, Worker
from services.janitor.leases import Leases
from services.janitor.rounds import keep
from shared.errors import Retry
from shared.jobs import Job, JobStore, NewJob, Notifications, Watch, open_store
from shared.jobs.audit import audit
from shared.jobs.connection import connect
from shared.jobs.model import new_id
from shared.lifecycle import ended
from tests.fixtures.redis import RedisServer, free_port, server_binary
from tests.fixtures.relay import relay_to

TYPE, PREFIX = "segmentation", "{a}:"


class Suite:
    """A worker and a janitor at work on one Redis, for the time of a test."""

    def __init__(self, url: str) -> None:
        self.store = open_store(url, PREFIX)
        self.notifications = Notifications(url, PREFIX)
        self.executed = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def handle(self, _job: Job) -> Done:
        self.executed += 1
        await self.gate.wait()
        return Done({"answer": "42"})

    async def submit(self, count: int = 1) -> list[str]:
        """Submit as a client does that is told to come again: with the same ids."""
        jobs = [NewJob(new_id(TYPE)) for _ in range(count)]
        async with asyncio.timeout(40):
            while True:
                with contextlib.suppress(Retry):
                    return [answer.id for answer in await self.store.submit(*jobs)]

    async def all_done(self, ids: list[str]) -> None:
        async with asyncio.timeout(40), self.notifications.watch(*(f"job:{job_id}" for job_id in ids)) as watch:
            while True:
                with contextlib.suppress(Retry):
                    jobs = await self.store.get_many(ids)
                    if all(job is not None and job.status == "done" for job in jobs):
                        return
                await watch.wait(1)


@contextlib.asynccontextmanager
async def suite(url: str) -> AsyncIterator[Suite]:
    it = Suite(url)
    stopping = asyncio.Event()
    capacity = Capacity(slots=8, lease=5, renew=0.5, reconcile=0.5)
    tasks = [
        asyncio.create_task(it.notifications.run()),
        asyncio.create_task(keep("leases", Leases(it.store, "j1", 10, 300).round, Watch(), 0.5)),
    ]
    worker = asyncio.create_task(Worker("w1", it.store, it.notifications, [TYPE], it.handle, capacity).run(stopping, 5))
    try:
        yield it
        assert not worker.done(), "the worker must outlive the trouble"
        for task in tasks:
            if task.done():
                task.result()  # raises what ended it
            assert not task.done()
    finally:
        stopping.set()
        await ended(*tasks)
        await asyncio.wait({worker}, timeout=20)
        await ended(worker)
        await it.store.aclose()
        await it.notifications.aclose()


async def test_a_killed_and_restarted_server_loses_nothing(own_redis: RedisServer) -> None:
    async with suite(own_redis.url) as it:
        it.gate.clear()
        ids = await it.submit(20)
        own_redis.stop(kill=True)
        with pytest.raises(Retry, match="cannot be reached"):
            await it.store.submit(NewJob(new_id(TYPE)))
        it.gate.set()
        await asyncio.to_thread(own_redis.start)
        await it.all_done(ids)
        await it.all_done(await it.submit())
        assert await audit(it.store) == []


async def test_a_paused_server_is_waited_for(own_redis: RedisServer) -> None:
    hasty = JobStore(connect(own_redis.url, timeout=0.1), PREFIX)
    async with suite(own_redis.url) as it:
        await it.store.redis.execute_command("CLIENT", "PAUSE", "4000", "ALL")
        with pytest.raises(Retry, match="cannot be reached"):
            await hasty.ping()
        await it.all_done(await it.submit(5))
    await hasty.aclose()


async def test_a_full_server_refuses_submissions_whole_but_finishes_what_it_has(own_redis: RedisServer) -> None:
    async with suite(own_redis.url) as it:
        it.gate.clear()
        ids = await it.submit(12)
        await it.store.redis.config_set("maxmemory", 1)
        refused = [NewJob(new_id(TYPE), uses=("uploads/a.tif",), idempotency_key=f"k{n}") for n in range(3)]
        with pytest.raises(Retry, match="takes no changes right now: OOM"):
            await it.store.submit(*refused)
        assert await it.store.get_many([job.id for job in refused]) == [None] * 3
        traces = ("uses:", "idempotency:", *(job.id.partition(":")[2] for job in refused))
        left = [key async for key in it.store.redis.scan_iter(match="*") if any(trace in key for trace in traces)]
        assert left == [], "nothing is half written"
        it.gate.set()
        await it.all_done(ids)
        await it.store.redis.config_set("maxmemory", 0)
        answers = await it.store.submit(*refused)
        assert [answer.created for answer in answers] == [True] * 3
        await it.all_done([job.id for job in refused])
        assert await audit(it.store) == []


async def test_a_full_server_can_be_emptied_by_the_janitor(own_redis: RedisServer) -> None:
    store = open_store(own_redis.url, PREFIX)
    (answer,) = await store.submit(NewJob(new_id(TYPE), retention=0))
    (job,) = (await store.claim("w1", [TYPE], 1, 15)).jobs
    await store.redis.config_set("maxmemory", 1)
    assert await store.renew("w1", 15, [job.held]) == set()
    assert await store.complete("w1", (job.held, {"a": "1"})) == [True]
    assert await store.take_turn("retention", "j1", 30)
    assert (await store.due())[0] == [answer.id]
    assert await store.release_objects(answer.id) == []
    assert await store.forget(answer.id, []) == 1
    await store.aclose()


async def test_a_read_only_replica_is_waited_for(own_redis: RedisServer) -> None:
    async with suite(own_redis.url) as it:
        await it.all_done(await it.submit())
        await it.store.redis.replicaof("127.0.0.1", str(free_port()))
        with pytest.raises(Retry, match="READONLY"):
            await it.store.submit(NewJob(new_id(TYPE)))
        await it.store.redis.replicaof("NO", "ONE")
        await it.all_done(await it.submit(5))


async def test_everything_works_at_200_ms(own_redis: RedisServer) -> None:
    async with relay_to(own_redis.port, delay=0.1) as relay, suite(f"redis://127.0.0.1:{relay.port}/0") as it:
        await it.all_done(await it.submit(16))
        assert it.executed == 16


async def test_cut_connections_cost_no_job(own_redis: RedisServer) -> None:
    async with relay_to(own_redis.port) as relay, suite(f"redis://127.0.0.1:{relay.port}/0") as it:
        ids = []
        for _ in range(10):
            ids += await it.submit(10)
            relay.cut()
        await it.all_done(ids)
        assert await audit(it.store) == []


async def test_without_permission_the_user_is_told(own_redis: RedisServer) -> None:
    from shared.errors import Misconfigured

    store = open_store(own_redis.url, PREFIX)
    await store.redis.execute_command("ACL", "SETUSER", "poor", "on", ">secret", "~other:*", "+@all")
    poor = open_store(own_redis.url.replace("redis://", "redis://poor:secret@"), PREFIX)
    with pytest.raises(Misconfigured, match="lacks permissions"):
        await poor.get(new_id(TYPE))
    wrong = open_store(own_redis.url.replace("redis://", "redis://poor:wrong@"), PREFIX)
    with pytest.raises(Misconfigured, match="refuses the user or password"):
        await wrong.get(new_id(TYPE))
    for each in (store, poor, wrong):
        await each.aclose()


def _sentinel(folder: Path, master: int) -> tuple[subprocess.Popen[bytes], int]:
    port = free_port()
    folder.mkdir()
    conf = folder / "sentinel.conf"
    conf.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor main 127.0.0.1 {master} 1\n"
        "sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 1000\n"
    )
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([server_binary(), str(conf), "--sentinel"], stdout=log, stderr=log), port


async def test_a_failover_by_sentinel_is_followed(tmp_path: Path) -> None:
    master = RedisServer(tmp_path / "master").start()
    replica = RedisServer(tmp_path / "replica", "--replicaof", "127.0.0.1", str(master.port)).start()
    sentinel, port = _sentinel(tmp_path / "sentinel", master.port)
    try:
        url = f"redis+sentinel://127.0.0.1:{port}/main/0"
        await _knows_replica(port)
        async with suite(url) as it:
            ids = await it.submit(10)
            await it.all_done(ids)
            assert await it.store.redis.wait(1, 5000) == 1
            await asyncio.to_thread(master.stop, kill=True)
            await it.all_done(await it.submit(10))
            assert all(job is not None for job in await it.store.get_many(ids))
    finally:
        sentinel.kill()
        sentinel.wait(10)
        for server in (master, replica):
            server.stop(kill=True)


async def _knows_replica(port: int) -> None:
    client = connect(f"redis://127.0.0.1:{port}/0")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            found = await client.execute_command("SENTINEL", "REPLICAS", "main")
            if found and "slave" in str(found) and "ok" in str(found).lower():
                await client.aclose()
                return
    raise TimeoutError("The sentinel does not see the replica.")
