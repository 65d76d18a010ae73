"""While a job waits and a worker is parked, somebody is about to claim: a wake-up never ends at one who cannot."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from shared.jobs import JobStore, NewJob, Notifications, Watch
from shared.jobs.model import new_id

A, B = "bundle", "noop"
LEASE = 15.0
LONG = 30.0  # s for an event to come; far above the reconcile period, so that it is the event which is waited for


@contextlib.asynccontextmanager
async def parked(store: JobStore, notifications: Notifications) -> AsyncIterator[dict[str, Watch]]:
    """Three workers of both types that have found nothing; the last one is woken first."""
    async with contextlib.AsyncExitStack() as stack:
        watches = {}
        for name in ("first", "second", "third"):
            watches[name] = await stack.enter_async_context(notifications.watch(f"wake:{name}"))
            await store.claim(name, [A, B], 1, LEASE)
        for watch in watches.values():
            watch._event.clear()  # the connection's own
        yield watches


async def submit(store: JobStore, *types: str) -> list[str]:
    return [each.id for each in await store.submit(*(NewJob(new_id(kind)) for kind in types))]


async def test_one_who_was_woken_twice_and_is_full_wakes_the_next(
    store: JobStore, notifications: Notifications
) -> None:
    """It was parked for both types, so both jobs woke it; it has room for one."""
    async with parked(store, notifications) as workers:
        await submit(store, A)
        await submit(store, B)
        assert await workers["third"].wait(LONG)
        assert len((await store.claim("third", [A, B], 1, LEASE)).jobs) == 1
        assert await workers["second"].wait(LONG)


async def test_jobs_that_a_claim_found_due_wake_others(store: JobStore, notifications: Notifications) -> None:
    """A claim that comes before the janitor moves them into the queue, and takes only what it has room for."""
    await submit(store, A, A)
    for job in (await store.claim("busy", [A], 2, LEASE)).jobs:
        await store.fail("busy", job.held, "The model server is away.", again_in=5)
    async with parked(store, notifications) as workers:
        later = await store._milliseconds() + 6_000
        then = JobStore(store.redis, store.prefix, now=lambda: str(later))
        assert len((await then.claim("busy", [A], 1, LEASE)).jobs) == 1
        assert await workers["third"].wait(LONG)


async def test_one_who_has_room_for_all_wakes_nobody(store: JobStore, notifications: Notifications) -> None:
    async with parked(store, notifications) as workers:
        await submit(store, A)
        assert await workers["third"].wait(LONG)
        assert len((await store.claim("third", [A, B], 1, LEASE)).jobs) == 1
        await store.redis.set(f"{store.prefix}wake:first", "x")  # an event that comes after all others
        assert await workers["first"].wait(LONG)
        assert not workers["second"]._event.is_set()


async def test_one_who_retires_after_it_was_woken_wakes_the_next(store: JobStore, notifications: Notifications) -> None:
    async with parked(store, notifications) as workers:
        await submit(store, A)
        assert await store.retire("third") == {"third"}
        assert await workers["third"].wait(LONG)
        assert (await store.claim("third", [A, B], 1, LEASE)).retiring
        assert await workers["second"].wait(LONG)


async def test_one_who_stops_is_not_woken_and_passes_on_what_woke_it(
    store: JobStore, notifications: Notifications
) -> None:
    async with parked(store, notifications) as workers:
        await submit(store, A)
        assert await workers["third"].wait(LONG)
        await store.unpark("third", [A, B])
        assert await workers["second"].wait(LONG)
        assert len((await store.claim("second", [A, B], 1, LEASE)).jobs) == 1
        await store.unpark("first", [A, B])
        assert await store.redis.zcard(f"{store.prefix}idle:{A}") == 0
