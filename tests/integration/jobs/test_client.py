"""What our client of Redis does otherwise than redis-py's."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.jobs import NewJob, open_store
from shared.jobs.client import MOST_AT_ONCE
from shared.jobs.model import new_id
from shared.lifecycle import ended
from tests.fixtures.redis import RedisServer
from tests.fixtures.relay import relay_to

TYPE = "segmentation"


async def test_any_number_of_calls_at_once_share_some_connections(own_redis: RedisServer) -> None:
    store = open_store(own_redis.url, "{a}:")
    ids = [new_id(TYPE) for _ in range(5 * MOST_AT_ONCE)]
    answers = await asyncio.gather(*(store.submit(NewJob(job_id)) for job_id in ids))
    assert [answer.id for (answer,) in answers] == ids
    claim = await store.claim("w1", [TYPE], len(ids), 15)
    await asyncio.gather(*(store.advance("w1", (job.held, "predicting", 50)) for job in claim.jobs))
    assert {job.status for job in await store.get_many(ids) if job} == {"predicting"}
    assert (await store.redis.info("clients"))["connected_clients"] <= MOST_AT_ONCE + 1
    await store.aclose()
    other = open_store(own_redis.url, "{a}:")
    async with asyncio.timeout(20):
        while (await other.redis.info("clients"))["connected_clients"] > 1:
            await asyncio.sleep(0)
    await other.aclose()


async def test_a_call_that_was_given_up_leaves_its_answer_to_nobody(own_redis: RedisServer) -> None:
    async with relay_to(own_redis.port, delay=0.02) as relay:
        store = open_store(f"redis://127.0.0.1:{relay.port}/0", "{a}:")
        ids = [new_id(TYPE) for _ in range(3)]
        for job_id in ids:
            await store.submit(NewJob(job_id))
            asking = asyncio.create_task(store.get(ids[0]))
            for _ in range(20):
                await asyncio.sleep(0)
            await ended(asking)
            found = await store.get(job_id)
            assert found is not None
            assert found.id == job_id
            assert found.fields["created_ms"] == await store.redis.hget(f"{{a}}:job:{job_id}", "created_ms")
        await store.aclose()


async def test_a_connection_that_was_closed_meanwhile_is_opened_again(own_redis: RedisServer) -> None:
    store = open_store(own_redis.url, "{a}:")
    await asyncio.gather(*(store.ping() for _ in range(5)))
    await store.redis.execute_command("CLIENT", "KILL", "TYPE", "normal")
    for _ in range(3):
        await store.ping()
    await store.aclose()


async def test_a_connection_that_another_task_closes_is_away(own_redis: RedisServer) -> None:
    """As those of a cluster, when one of several callers finds its node gone."""
    store = open_store(own_redis.url, "{a}:")
    connection = store.redis.connection_pool.make_connection()
    await connection.connect()
    connection.check_health = connection.disconnect
    with pytest.raises(RedisConnectionError, match="closed meanwhile"):
        await connection.send_command("PING")
    await store.aclose()
