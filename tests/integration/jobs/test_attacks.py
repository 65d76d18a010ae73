"""Interleavings and contents that would break a promise if a script took its reader at its word."""

from __future__ import annotations

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
