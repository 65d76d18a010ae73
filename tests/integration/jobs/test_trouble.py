"""Redis in trouble: the store says `Retry`, writes nothing by halves, and everything heals without a restart."""

from __future__ import annotations

import asyncio

import pytest

from shared.errors import Retry
from shared.jobs import JobStore, NewJob, open_store
from shared.jobs.audit import audit
from shared.jobs.connection import connect
from shared.jobs.model import new_id
from tests.fixtures.redis import RedisServer, free_port
from tests.fixtures.relay import relay_to
from tests.integration.jobs.flow import PREFIX, TYPE, suite


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
