"""Interleavings and contents that would break a promise if a script took its reader at its word."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from shared.errors import Retry
from shared.jobs import JobStore, NewJob
from shared.jobs.audit import audit
from shared.jobs.model import new_id

TYPE, PART = "bundle", "noop"
LEASE = 15.0


async def submit(store: JobStore, **fields: object) -> str:
    return (await store.submit(NewJob(new_id(TYPE), **fields)))[0].id  # type: ignore[arg-type]


async def test_reviving_again_under_the_same_id_changes_nothing(store: JobStore) -> None:
    """The client sends a call again whose answer was lost: the token of who claimed the job meanwhile must stand."""
    old = await submit(store)
    await store.cancel(old, "test")
    fresh = new_id(TYPE)
    assert await store.revive(old, fresh) == fresh
    (job,) = (await store.claim("w1", [TYPE], 1, LEASE)).jobs
    assert await store.revive(old, fresh) == fresh
    assert (await store.claim("w2", [TYPE], 1, LEASE)).jobs == ()
    assert await store.complete("w1", (job.held, {})) == [True]
    assert await audit(store) == []


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999", "0x10", "1e300"])
async def test_a_number_that_cannot_be_added_up_costs_its_job_nothing(store: JobStore, number: str) -> None:
    bad, good = await submit(store), await submit(store)
    claim = await store.claim("w1", [TYPE], 2, LEASE)
    results = [(job.held, {"gpu_seconds": number if job.id == bad else "1"}) for job in claim.jobs]
    assert await store.complete("w1", *results) == [True, True]
    assert {job.status for job in await store.get_many([bad, good]) if job} == {"done"}
    assert await store.held("w1") == set()
    assert await audit(store) == []


@pytest.mark.parametrize(
    "key", [f"queue:{TYPE}", f"queue:{TYPE}:anonymous", f"depth:{TYPE}", "owned:anonymous", "uses:uploads/a", "kinds"]
)
async def test_what_was_refused_for_a_wrong_key_is_accepted_when_it_is_gone(store: JobStore, key: str) -> None:
    """The submission comes again under the same id and idempotency key: it must not pass for one that was accepted."""
    order = NewJob(new_id(TYPE), idempotency_key="k", uses=("uploads/a",))
    await store.redis.hset(store.prefix + key, "of", "a wrong kind")
    with pytest.raises(Retry):
        await store.submit(order)
    assert await store.get(order.id) is None
    await store.redis.delete(store.prefix + key)
    assert (await store.submit(order))[0].id == order.id
    assert [job.id for job in (await store.claim("w1", [TYPE], 9, LEASE)).jobs] == [order.id]


async def test_an_idempotency_key_of_a_job_that_is_gone_is_no_job(store: JobStore) -> None:
    """Redis was told to remove keys, or somebody did: what is submitted under the key is accepted anew."""
    lost = await submit(store, idempotency_key="k")
    await store.redis.delete(f"{store.prefix}job:{lost}")
    (answer,) = await store.submit(NewJob(new_id(TYPE), idempotency_key="k"))
    assert answer.created
    assert answer.id in [job.id for job in (await store.claim("w1", [TYPE], 9, LEASE)).jobs]


@pytest.mark.parametrize(("field", "value"), [("losses", "many"), ("attempt", ""), ("status", "odd")])
async def test_a_damaged_part_keeps_its_parent_from_its_end_only_until_the_audit(
    store: JobStore, field: str, value: str
) -> None:
    parent = await submit(store)
    (job,) = (await store.claim("w1", [TYPE], 1, LEASE)).jobs
    await store.split("w1", job.held, [(PART, {}), (PART, {})])
    damaged, sound = await store.children(parent)
    await store.redis.hset(f"{store.prefix}job:{damaged}", field, value)
    (part,) = [part for part in (await store.claim("w1", [PART], 2, LEASE)).jobs if part.id == sound]
    await store.complete("w1", (part.held, {}))
    await store.evict("janitor", "w1", charge=True)
    await audit(store, repair=True)
    await audit(store, repair=True)
    assert [job.id for job in (await store.claim("w2", [TYPE], 1, LEASE)).jobs] == [parent]


@pytest.mark.parametrize("key", [f"queue:{PART}", f"queue:{PART}:anonymous", f"depth:{PART}"])
async def test_a_split_that_was_refused_for_a_wrong_key_is_made_when_it_is_gone(store: JobStore, key: str) -> None:
    parent = await submit(store)
    (job,) = (await store.claim("w1", [TYPE], 1, LEASE)).jobs
    await store.redis.hset(store.prefix + key, "of", "a wrong kind")
    with pytest.raises(Retry):
        await store.split("w1", job.held, [(PART, {}), (PART, {})])
    await store.redis.delete(store.prefix + key)
    assert await store.split("w1", job.held, [(PART, {}), (PART, {})]) == 2
    claim = await store.claim("w2", [PART], 9, LEASE)
    assert [part.id for part in claim.jobs] == await store.children(parent)
    assert await store.complete("w2", *((part.held, {}) for part in claim.jobs)) == [True, True]
    assert [job.id for job in (await store.claim("w1", [TYPE], 1, LEASE)).jobs] == [parent]


@pytest.mark.parametrize("key", [f"queue:{TYPE}", f"queue:{TYPE}:anonymous"])
@pytest.mark.parametrize("way", ["release", "evict", "evict charged", "fail", "reclaim"])
async def test_a_job_that_cannot_go_back_to_its_queue_stays_under_its_lease(
    store: JobStore, way: str, key: str
) -> None:
    """The queue's key is of a wrong kind: what would be in no queue and under no lease would be lost."""
    moment = await store._milliseconds()
    store = JobStore(store.redis, store.prefix, now=lambda: str(moment))
    job_id = await submit(store)
    (job,) = (await store.claim("w1", [TYPE], 1, LEASE)).jobs
    await store.redis.hset(store.prefix + key, "of", "a wrong kind")
    moment += 1000 * int(LEASE + 1) if way == "reclaim" else 0
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "release": lambda: store.release("w1", [job.held]),
        "fail": lambda: store.fail("w1", job.held, "Away.", again_in=0),
        "reclaim": lambda: store.reclaim("janitor"),
        "evict": lambda: store.evict("janitor", "w1", charge=False),
        "evict charged": lambda: store.evict("janitor", "w1", charge=True),
    }
    with pytest.raises(Retry):
        await calls[way]()
    await store.redis.delete(store.prefix + key)
    moment += 1000 * int(LEASE + 1)
    assert await store.reclaim("janitor") == ([(job_id, "requeued")], None)
    (again,) = (await store.claim("w2", [TYPE], 1, LEASE)).jobs
    assert (again.id, again.fields["losses"]) == (job_id, "1")
    assert await audit(store) == []


@pytest.mark.parametrize("key", [f"queue:{TYPE}", f"queue:{TYPE}:anonymous"])
async def test_the_last_part_ends_again_where_its_parent_could_not_be_queued(store: JobStore, key: str) -> None:
    parent = await submit(store)
    (job,) = (await store.claim("w1", [TYPE], 1, LEASE)).jobs
    await store.split("w1", job.held, [(PART, {})])
    (part,) = (await store.claim("w1", [PART], 1, LEASE)).jobs
    await store.redis.hset(store.prefix + key, "of", "a wrong kind")
    with pytest.raises(Retry):
        await store.complete("w1", (part.held, {}))
    await store.redis.delete(store.prefix + key)
    assert await store.complete("w1", (part.held, {})) == [True]
    assert [job.id for job in (await store.claim("w1", [TYPE], 1, LEASE)).jobs] == [parent]
    assert await audit(store) == []


@pytest.mark.parametrize("seconds", [1_234_564.0, 12_345_678.5, 0.25])
async def test_a_job_is_kept_as_long_as_was_said(store: JobStore, seconds: float) -> None:
    """Never earlier, however many digits the time has."""
    moment = await store._milliseconds()
    store = JobStore(store.redis, store.prefix, now=lambda: str(moment))
    as_said_later, as_submitted = await submit(store), await submit(store, retention=seconds)
    await store.expire(as_said_later, seconds)
    for job_id in (as_said_later, as_submitted):
        await store.cancel(job_id, "test")
        assert await store.redis.zscore(f"{store.prefix}expiry", job_id) == moment + seconds * 1000


@pytest.mark.parametrize("key", [f"queue:{TYPE}", f"queue:{TYPE}:anonymous"])
async def test_a_type_with_a_wrong_key_keeps_no_other_type_waiting(store: JobStore, key: str) -> None:
    """Leases of all types are taken back in one call, and so are the jobs that are to be tried again later."""
    moment = await store._milliseconds()
    store = JobStore(store.redis, store.prefix, now=lambda: str(moment))
    ids = [
        await submit(store),
        *(each.id for each in await store.submit(*(NewJob(new_id(f"t{n}")) for n in range(20)))),
    ]
    later = await submit(store)
    claim = await store.claim("w1", [TYPE, *(f"t{n}" for n in range(20))], 99, LEASE)
    (held,) = (job.held for job in claim.jobs if job.id == later)
    await store.fail("w1", held, "Away.", again_in=1)
    await store.redis.hset(store.prefix + key, "of", "a wrong kind")
    moment += 1000 * int(LEASE + 1)
    with pytest.raises(Retry):
        await store.reclaim("janitor")
    assert len((await store.claim("w2", [f"t{n}" for n in range(20)], 99, LEASE)).jobs) == 20
    await store.redis.delete(store.prefix + key)
    await store.reclaim("janitor")
    assert {job.id for job in (await store.claim("w2", [TYPE], 99, LEASE)).jobs} == {ids[0], later}
    assert await audit(store) == []
