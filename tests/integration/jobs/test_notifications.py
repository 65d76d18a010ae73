"""Keyspace notifications on a real Redis: who is woken, by what, and what happens when they are lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from shared.errors import Retry
from shared.jobs import JobStore, NewJob, Notifications, open_store
from shared.jobs.connection import AWAY
from shared.jobs.model import new_id
from shared.jobs.notifications import switch_on
from shared.lifecycle import ended
from tests.fixtures.redis import RedisServer
from tests.fixtures.relay import relay_to

TYPE = "segmentation"


@contextlib.asynccontextmanager
async def listening(url: str, prefix: str) -> AsyncIterator[Notifications]:
    manager = Notifications(url, prefix)
    task = asyncio.create_task(manager.run())
    try:
        async with asyncio.timeout(20):
            await manager.ready()
        yield manager
    finally:
        await ended(task)
        await manager.aclose()


async def submit(store: JobStore, count: int = 1) -> list[str]:
    return [answer.id for answer in await store.submit(*(NewJob(new_id(TYPE)) for _ in range(count)))]


async def test_of_a_thousand_idle_workers_one_job_wakes_one(store: JobStore, notifications: Notifications) -> None:
    async with contextlib.AsyncExitStack() as stack:
        watches = {f"w{n}": await stack.enter_async_context(notifications.watch(f"wake:w{n}")) for n in range(1000)}
        for worker in watches:
            assert (await store.claim(worker, [TYPE], 1, 15)).jobs == ()
        for watch in watches.values():
            watch._event.clear()
        before = (await store.redis.info("stats"))["total_commands_processed"]
        await submit(store)
        waits = {asyncio.create_task(watch.wait(20)): worker for worker, watch in watches.items()}
        done, waiting = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        (woken,) = (waits[task] for task in done)
        assert len((await store.claim(woken, [TYPE], 1, 15)).jobs) == 1
        commands = (await store.redis.info("stats"))["total_commands_processed"] - before
        await store.redis.set(f"{store.prefix}wake:w0" if woken != "w0" else f"{store.prefix}wake:w1", "x")
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)  # later events than the first have come
        assert sum(task.done() for task in waits) == 2, "one by the job, one by the test's own event"
        await ended(*waiting)
    assert commands <= 60, "the cost must not depend on how many are idle"


async def test_n_jobs_wake_n_workers(store: JobStore, notifications: Notifications) -> None:
    async with contextlib.AsyncExitStack() as stack:
        watches = [await stack.enter_async_context(notifications.watch(f"wake:w{n}")) for n in range(5)]
        for n in range(5):
            await store.claim(f"w{n}", [TYPE], 1, 15)
        await submit(store, 3)
        waits = [asyncio.create_task(watch.wait(20)) for watch in watches]
        async with asyncio.timeout(20):
            while sum(task.done() for task in waits) < 3:
                await asyncio.wait([task for task in waits if not task.done()], return_when=asyncio.FIRST_COMPLETED)
        assert [task.done() for task in waits] == [False, False, True, True, True], "the latest parked first"
        await ended(*waits)


async def test_a_worker_that_died_while_parked_costs_only_its_turn(
    store: JobStore, notifications: Notifications
) -> None:
    await store.claim("alive", [TYPE], 1, 15)
    for n in range(20):
        await store.claim(f"dead{n}", [TYPE], 1, 15)  # parked, and nobody listens to their wake keys
    async with notifications.watch("wake:alive") as watch:
        await submit(store)
        assert await watch.wait(20)
    assert await store.redis.zcard(f"{store.prefix}idle:{TYPE}") == 0


async def test_an_event_right_after_a_watch_began_is_heard(
    redis_server: RedisServer, prefix: str, store: JobStore
) -> None:
    async with (
        relay_to(redis_server.port, delay=0.05) as relay,
        listening(f"redis://127.0.0.1:{relay.port}/0", prefix) as manager,
    ):
        for n in range(5):
            async with manager.watch(f"wake:w{n}") as watch:
                await store.redis.set(f"{prefix}wake:w{n}", "x")  # on a faster connection than the subscription
                assert await watch.wait(5)


async def test_a_silent_reconnection_is_seen(store: JobStore, notifications: Notifications) -> None:
    async with notifications.watch("wake:w1") as watch:
        watch._event.clear()
        before = notifications.reconnections
        await store.redis.client_kill_filter(_type="pubsub")
        assert await watch.wait(20), "whoever waits must look for itself after a reconnection"
        assert notifications.reconnections > before
        await _until_heard(store, watch, "wake:w1")


async def test_after_a_cut_everything_watched_is_heard_again(redis_server: RedisServer, prefix: str, store) -> None:  # type: ignore[no-untyped-def]
    async with (
        relay_to(redis_server.port) as relay,
        listening(f"redis://127.0.0.1:{relay.port}/0", prefix) as manager,
        manager.watch("wake:w1") as watch,
    ):
        for _ in range(3):
            relay.refusing = True
            assert relay.cut() > 0
            watch._event.clear()
            relay.refusing = False
            assert await watch.wait(20)
            await _until_heard(store, watch, "wake:w1")


async def _until_heard(store: JobStore, watch: Any, key: str) -> None:
    """Set a key until its event comes: the subscription stands again."""
    async with asyncio.timeout(20):
        heard = False
        while not heard:
            watch._event.clear()
            await store.redis.set(store.prefix + key, "x")
            heard = await watch.wait(0.2)


async def test_a_restarted_server_is_switched_on_again(own_redis: RedisServer) -> None:
    store = open_store(own_redis.url, "{a}:")
    async with listening(own_redis.url, "{a}:") as manager, manager.watch("wake:w1") as watch:
        own_redis.stop(kill=True)
        await asyncio.to_thread(own_redis.start)
        async with asyncio.timeout(20):
            while not {"K", "$", "h"} <= set(await _events(store)):
                await watch.wait(1)
        await _until_heard(store, watch, "wake:w1")
    await store.aclose()


async def _events(store: JobStore) -> str:
    with contextlib.suppress(Retry, *AWAY):
        return str((await store.redis.config_get("notify-keyspace-events"))["notify-keyspace-events"])
    return ""


@pytest.mark.parametrize(
    "options",
    [
        ("--rename-command", "CONFIG", ""),
        ("--user", "default", "on", "nopass", "~*", "&*", "+@all", "-config"),
    ],
    ids=["renamed", "forbidden"],
)
async def test_where_config_is_forbidden_it_says_once_what_to_set(tmp_path: Path, options: tuple[str, ...]) -> None:
    server = RedisServer(tmp_path / "redis", *options).start()
    try:
        with capture_logs() as logs:
            async with listening(server.url, "{a}:") as manager, manager.watch("wake:w1") as watch:
                store = open_store(server.url, "{a}:")
                await store.redis.client_kill_filter(_type="pubsub")
                assert await watch.wait(20)
                sentence = await switch_on(store.redis)
                await _works_by_polling(store, manager)
                await store.aclose()
        told = [line for line in logs if line["event"] == "notifications-not-switched-on"]
        assert len(told) == 1
        assert "Set notify-keyspace-events to K$h on the server" in told[0]["error"]
        assert sentence == told[0]["error"]
    finally:
        server.stop(kill=True)


async def _works_by_polling(store: JobStore, manager: Notifications) -> None:
    async with manager.watch("wake:w9") as watch:
        await store.claim("w9", [TYPE], 1, 15)
        await submit(store)
        await watch.wait(0.05)
        assert len((await store.claim("w9", [TYPE], 1, 15)).jobs) == 1


async def test_events_that_are_on_already_stay_on(own_redis: RedisServer) -> None:
    store = open_store(own_redis.url, "{a}:")
    await store.redis.config_set("notify-keyspace-events", "Ex")
    assert await switch_on(store.redis) is None
    events = (await store.redis.config_get("notify-keyspace-events"))["notify-keyspace-events"]
    assert set("ExK$h") <= set(events)
    await store.aclose()


async def test_watching_and_leaving_keeps_the_subscriptions_exact(
    store: JobStore, notifications: Notifications, prefix: str
) -> None:
    async def channels() -> set[str]:
        names = await store.redis.pubsub_channels(pattern="*")
        return {name for name in names if prefix in name}

    before = await channels()
    async with notifications.watch("job:a", "job:b"), notifications.watch("job:b"):
        async with asyncio.timeout(20):  # another connection may be served first
            while len(await channels()) != len(before) + 2:
                await asyncio.sleep(0)
        assert len(await channels()) == len(before) + 2
    async with asyncio.timeout(20):
        while await channels() != before:
            await asyncio.sleep(0)
