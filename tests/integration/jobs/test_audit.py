"""The auditor finds every planted fault, repairs it, and then finds nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from shared.jobs import JobStore, NewJob
from shared.jobs.audit import Auditor, audit
from shared.jobs.model import new_id

TYPE = "segmentation"
Plant = Callable[[JobStore], Awaitable[str]]


async def submitted(store: JobStore, **fields: object) -> str:
    (answer,) = await store.submit(NewJob(new_id(TYPE), **fields))  # type: ignore[arg-type]
    return answer.id


async def claimed(store: JobStore) -> str:
    job_id = await submitted(store)
    await store.claim("w1", [TYPE], 1, 15)
    return job_id


async def done(store: JobStore, **fields: object) -> str:
    job_id = await submitted(store, **fields)
    (job,) = (await store.claim("w1", [TYPE], 1, 15)).jobs
    await store.complete("w1", (job.held, {}))
    return job_id


async def split(store: JobStore) -> str:
    job_id = await submitted(store)
    (job,) = (await store.claim("w1", [TYPE], 1, 15)).jobs
    await store.split("w1", job.held, [(TYPE, {}), (TYPE, {})])
    return job_id


async def plant_queue_entry_without_job(store: JobStore) -> str:
    job_id = await submitted(store)
    await store.redis.delete(f"{store.prefix}job:{job_id}")
    return job_id


async def plant_delayed_entry_without_job(store: JobStore) -> str:
    await submitted(store)
    await store.redis.zadd(f"{store.prefix}delayed:{TYPE}", {"nonsense": 1})
    await store.redis.incr(f"{store.prefix}depth:{TYPE}")
    return "nonsense"


async def plant_finished_job_still_queued(store: JobStore) -> str:
    job_id = await done(store)
    await store.redis.zadd(f"{store.prefix}queue:{TYPE}:anonymous", {job_id: 1})
    await store.redis.zadd(f"{store.prefix}queue:{TYPE}", {"anonymous": 1})
    await store.redis.incr(f"{store.prefix}depth:{TYPE}")
    return job_id


async def plant_running_job_without_lease(store: JobStore) -> str:
    job_id = await claimed(store)
    await store.redis.zrem(f"{store.prefix}leases:{TYPE}", job_id)
    return job_id


async def plant_lease_without_worker(store: JobStore) -> str:
    job_id = await claimed(store)
    await store.redis.delete(f"{store.prefix}held:w1")
    return job_id


async def plant_lease_of_a_finished_job(store: JobStore) -> str:
    job_id = await done(store)
    await store.redis.zadd(f"{store.prefix}leases:{TYPE}", {job_id: 9e12})
    return job_id


async def plant_unqueued_job(store: JobStore) -> str:
    job_id = await submitted(store)
    await store.redis.delete(f"{store.prefix}queue:{TYPE}:anonymous", f"{store.prefix}queue:{TYPE}")
    await store.redis.set(f"{store.prefix}depth:{TYPE}", 0)
    return job_id


async def plant_job_queued_twice(store: JobStore) -> str:
    job_id = await submitted(store)
    await store.redis.zadd(f"{store.prefix}delayed:{TYPE}", {job_id: 9e12})
    await store.redis.incr(f"{store.prefix}depth:{TYPE}")
    return job_id


async def plant_child_without_parent(store: JobStore) -> str:
    job_id = await split(store)
    await store.redis.delete(f"{store.prefix}job:{job_id}", f"{store.prefix}children:{job_id}")
    return job_id + ".1"


async def plant_wrong_count_of_parts(store: JobStore) -> str:
    job_id = await split(store)
    await store.redis.set(f"{store.prefix}open:{job_id}", 1)
    return job_id


async def plant_parent_that_waits_for_nothing(store: JobStore) -> str:
    job_id = await split(store)
    for child in (await store.claim("w1", [TYPE], 2, 15)).jobs:
        await store.redis.incr(f"{store.prefix}open:{job_id}")
        await store.complete("w1", (child.held, {}))
    return job_id


async def plant_missing_field(store: JobStore) -> str:
    job_id = await submitted(store)
    await store.redis.hdel(f"{store.prefix}job:{job_id}", "attempt", "losses")
    return job_id


async def plant_hash_that_is_none(store: JobStore) -> str:
    job_id = new_id(TYPE)
    await store.redis.set(f"{store.prefix}job:{job_id}", "text")
    return job_id


async def plant_wrong_depth(store: JobStore) -> str:
    await submitted(store)
    await store.redis.set(f"{store.prefix}depth:{TYPE}", 7)
    return TYPE


async def plant_owner_without_turn(store: JobStore) -> str:
    await submitted(store)
    await store.redis.delete(f"{store.prefix}queue:{TYPE}")
    return TYPE


async def plant_turn_without_jobs(store: JobStore) -> str:
    await submitted(store)
    await store.redis.zadd(f"{store.prefix}queue:{TYPE}", {"nobody": 5})
    return TYPE


async def plant_reference_without_job(store: JobStore) -> str:
    job_id = await submitted(store, uses=("uploads/a.tif",), idempotency_key="k", batch="b")
    await store.cancel(job_id, "someone")
    await store.redis.delete(f"{store.prefix}job:{job_id}")
    return job_id


async def plant_left_over(store: JobStore) -> str:
    job_id = new_id(TYPE)
    await store.redis.rpush(f"{store.prefix}history:{job_id}", "attempt 1 failed")
    return job_id


async def plant_expiry_of_a_running_job(store: JobStore) -> str:
    job_id = await claimed(store)
    await store.redis.zadd(f"{store.prefix}expiry", {job_id: 1})
    return job_id


async def plant_held_by_another(store: JobStore) -> str:
    job_id = await claimed(store)
    await store.redis.sadd(f"{store.prefix}held:w2", job_id)
    return job_id


async def plant_content_without_upload(store: JobStore) -> str:
    for name in ("uploads/a.tif", "uploads/b.tif"):
        await store.share("ann", "sum", ".tif", name, "cells.tif")
    await store.redis.delete(f"{store.prefix}upload:uploads/b.tif")
    return "uploads/b.tif"


async def plant_content_without_object(store: JobStore) -> str:
    await store.share("ann", "sum", ".tif", "uploads/a.tif", "cells.tif")
    await store.redis.hdel(f"{store.prefix}content:ann:sum.tif", "object")
    return "uploads/a.tif"


async def plant_upload_without_content(store: JobStore) -> str:
    await store.share("ann", "sum", ".tif", "uploads/a.tif", "cells.tif")
    await store.redis.delete(f"{store.prefix}content:ann:sum.tif")
    return "uploads/a.tif"


@pytest.mark.parametrize(
    ("plant", "code"),
    [
        (plant_queue_entry_without_job, "queue-entry-without-job"),
        (plant_delayed_entry_without_job, "queue-entry-without-job"),
        (plant_finished_job_still_queued, "queued-though-finished"),
        (plant_running_job_without_lease, "running-without-lease"),
        (plant_lease_without_worker, "lease-without-worker"),
        (plant_lease_of_a_finished_job, "lease-of-idle-job"),
        (plant_unqueued_job, "unqueued-job"),
        (plant_job_queued_twice, "queued-twice"),
        (plant_child_without_parent, "part-without-parent"),
        (plant_wrong_count_of_parts, "wrong-count-of-parts"),
        (plant_parent_that_waits_for_nothing, "wrong-count-of-parts"),
        (plant_missing_field, "malformed-job"),
        (plant_wrong_depth, "wrong-depth"),
        (plant_owner_without_turn, "owner-without-turn"),
        (plant_turn_without_jobs, "turn-without-jobs"),
        (plant_reference_without_job, "reference-without-job"),
        (plant_left_over, "left-over"),
        (plant_expiry_of_a_running_job, "expiry-without-job"),
        (plant_held_by_another, "held-though-not-running"),
        (plant_content_without_upload, "content-without-upload"),
        (plant_content_without_object, "content-without-upload"),
        (plant_upload_without_content, "left-over"),
    ],
)
async def test_a_planted_fault_is_found_and_repaired(store: JobStore, plant: Plant, code: str) -> None:
    await done(store)
    assert await audit(store) == []
    subject = await plant(store)
    found = {(finding.code, finding.subject) for finding in await audit(store)}
    assert (code, subject) in found
    assert any(finding.repaired for finding in await audit(store, repair=True))
    for _ in range(3):  # a repair may bring the next fault to light: what is moved aside is then cleared away
        await audit(store, repair=True)
    hopeless = {"malformed-job"}
    assert {finding.code for finding in await audit(store)} <= hopeless | {"set-aside"}


async def test_what_is_no_hash_or_no_key_of_ours_is_reported(store: JobStore) -> None:
    job_id = await plant_hash_that_is_none(store)
    await store.redis.set(store.prefix + "stranger", "x")
    await store.redis.set(store.prefix + "leases:tracking", "x")
    found = {(finding.code, finding.subject) for finding in await audit(store)}
    assert {
        ("malformed-job", job_id),
        ("wrong-shape", f"job:{job_id}"),
        ("wrong-shape", "leases:tracking"),
        ("unknown-key", "stranger"),
    } <= found


async def test_repairs_make_jobs_runnable_again(store: JobStore) -> None:
    lost = await plant_unqueued_job(store)
    await audit(store, repair=True)
    assert [job.id for job in (await store.claim("w2", [TYPE], 5, 15)).jobs] == [lost]
    parent = await plant_parent_that_waits_for_nothing(store)
    await audit(store, repair=True)
    assert [job.id for job in (await store.claim("w2", [TYPE], 5, 15)).jobs] == [parent]


async def test_a_large_deployment_is_read_in_steps(store: JobStore) -> None:
    ids = [answer.id for answer in await store.submit(*(NewJob(new_id(TYPE)) for _ in range(1500)))]
    await store.redis.delete(f"{store.prefix}job:{ids[700]}")
    auditor = Auditor(store)
    found = [finding async for finding in auditor.findings()]
    assert {(f.code, f.subject) for f in found} == {
        ("queue-entry-without-job", ids[700]),
        ("reference-without-job", ids[700]),
    }
    assert auditor.keys_read >= 1500
