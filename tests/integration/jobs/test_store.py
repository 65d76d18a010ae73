"""The job store on a real Redis: each call's promise."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shared.errors import InvalidInput, LostLease, NotFound
from shared.jobs import Held, JobStore, NewJob
from shared.jobs.audit import audit
from shared.jobs.model import new_id
from shared.jobs.states import MOVING_FIELDS

LEASE = 15.0


def a_job(**fields: object) -> NewJob:
    return NewJob(id=new_id("segmentation"), **fields)  # type: ignore[arg-type]


async def submitted(store: JobStore, **fields: object) -> str:
    (answer,) = await store.submit(a_job(**fields))
    return answer.id


async def claimed(
    store: JobStore, worker: str = "w1", count: int = 1, types: Sequence[str] = ("segmentation",)
) -> list[Held]:
    return [job.held for job in (await store.claim(worker, types, count, LEASE)).jobs]


async def test_a_submitted_job_is_new_and_waits(store: JobStore) -> None:
    job_id = await submitted(store, facts={"original_name": "a,b:c/ü.tif"})
    job = await store.get(job_id)
    assert job is not None
    assert (job.status, job.owner, job.fields["original_name"]) == ("new", "anonymous", "a,b:c/ü.tif")
    assert job.fields["created_at"].endswith("+00:00")
    assert (await store.queues(["segmentation"]))["segmentation"].waiting == 1


async def test_the_same_key_returns_the_same_job_and_enqueues_nothing(store: JobStore) -> None:
    first, again = await store.submit(a_job(idempotency_key="k"), a_job(idempotency_key="k"))
    (other,) = await store.submit(a_job(idempotency_key="k", owner="someone"))
    assert (first.created, again.created, other.created) == (True, False, True)
    assert first.id == again.id != other.id
    assert (await store.queues(["segmentation"]))["segmentation"].waiting == 2


async def test_claim_raises_the_token_and_complete_needs_it(store: JobStore) -> None:
    job_id = await submitted(store)
    (held,) = await claimed(store)
    assert held == Held(job_id, 1)
    assert await store.complete("w1", (Held(job_id, 0), {"x": "1"})) == [False]
    assert await store.complete("w1", (held, {"output_url": "u"})) == [True]
    job = await store.get(job_id)
    assert job is not None
    assert (job.status, job.fields["progress"], job.fields["failures"], job.fields["output_url"]) == (
        "done",
        "100",
        "",
        "u",
    )
    assert "x" not in job.fields
    assert await store.complete("w1", (held, {})) == [False]


async def test_facts_are_written_once(store: JobStore) -> None:
    job_id = await submitted(store, facts={"original_name": "first"})
    (held,) = await claimed(store)
    await store.complete("w1", (held, {"original_name": "second"}))
    assert await store.get_fields(job_id, ["original_name"]) == ["first"]


async def test_a_paused_worker_cannot_overwrite_its_successor(store: JobStore) -> None:
    job_id = await submitted(store)
    (old,) = await claimed(store, "w1")
    await store.evict("janitor", "w1", charge=True)
    (new,) = await claimed(store, "w2")
    assert (new.id, new.attempt) == (job_id, old.attempt + 1)
    assert await store.renew("w1", LEASE, [old]) == {job_id}
    assert await store.advance("w1", (old, "predicting", 10)) == [False]
    assert await store.advance("w2", (old, "predicting", 10), (new, "predicting", 20)) == [False, True]
    assert await store.get_fields(job_id, ["progress"]) == ["20"]
    with pytest.raises(LostLease):
        await store.fail("w1", old, "no")
    with pytest.raises(LostLease):
        await store.split("w1", old, [("segmentation", {})])
    assert await store.complete("w1", (old, {})) == [False]
    assert await store.complete("w2", (new, {})) == [True]


async def test_owners_are_served_in_turn(store: JobStore) -> None:
    many = [await submitted(store, owner="many") for _ in range(20)]
    few = [await submitted(store, owner="few") for _ in range(2)]
    order = [held.id for held in await claimed(store, count=6)]
    assert order == [many[0], few[0], many[1], few[1], many[2], many[3]]


async def test_priority_goes_first_within_an_owner(store: JobStore) -> None:
    low, high = await submitted(store, priority=-5), await submitted(store, priority=5)
    assert [held.id for held in await claimed(store, count=2)] == [high, low]


async def test_an_input_fault_is_never_retried(store: JobStore) -> None:
    job_id = await submitted(store)
    (held,) = await claimed(store)
    assert await store.fail("w1", held, "This is no image.") == "failed"
    assert await store.get_fields(job_id, ["status", "reason", "failures"]) == ["failed", "This is no image.", ""]
    assert await claimed(store) == []


async def test_after_its_losses_a_job_is_buried_with_its_history(store: JobStore) -> None:
    job_id = await submitted(store, max_attempts=2)
    outcomes = []
    for worker in ("w1", "w2"):
        (held,) = await claimed(store, worker)
        outcomes.append(await store.fail(worker, held, "The model is away.", again_in=0))
    assert outcomes == ["requeued", "buried"]
    status, reason = await store.get_fields(job_id, ["status", "reason"])
    assert status == "failed"
    assert reason is not None
    assert reason.count("The model is away.") == 2
    assert (await store.queues(["segmentation"]))["segmentation"].dead == 1


async def test_release_charges_nothing_and_goes_to_the_front(store: JobStore) -> None:
    first, second = await submitted(store), await submitted(store)
    (held,) = await claimed(store)
    assert await store.release("w1", [held]) == 1
    assert [h.id for h in await claimed(store, "w2", 2)] == [first, second]
    assert await store.get_fields(first, ["losses", "attempt"]) == ["0", "2"]


async def test_nobody_releases_or_ends_the_job_of_another(store: JobStore) -> None:
    job_id = await submitted(store)
    (held,) = await claimed(store, "w2")
    assert await store.release("w1", [held]) == 0
    assert await store.complete("w1", (held, {})) == [False]
    assert await store.held("w2") == {job_id}
    assert await store.complete("w2", (held, {})) == [True]


async def test_a_delayed_job_is_not_claimed_before_its_time(store: JobStore) -> None:
    clock = {"now": 1_000_000}
    slow = JobStore(store.redis, store.prefix, 0, lambda: str(clock["now"]))
    await submitted(slow)
    (held,) = await claimed(slow)
    await slow.fail("w1", held, "later", again_in=10)
    claim = await slow.claim("w1", ["segmentation"], 1, LEASE)
    assert (claim.jobs, claim.next_due) == ((), 10.0)
    clock["now"] += 10_000
    assert len(await claimed(slow)) == 1


async def test_an_expired_lease_is_taken_back_to_the_front(store: JobStore) -> None:
    clock = {"now": 1_000_000}
    slow = JobStore(store.redis, store.prefix, 0, lambda: str(clock["now"]))
    first, second = await submitted(slow), await submitted(slow)
    await claimed(slow)
    assert await slow.reclaim("j", ["segmentation"]) == ([], LEASE)
    clock["now"] += 15_000
    assert await slow.reclaim("j", ["segmentation"]) == ([(first, "requeued")], None)
    assert [h.id for h in await claimed(slow, "w2", 2)] == [first, second]


async def test_the_last_child_puts_the_parent_back_to_be_gathered(store: JobStore) -> None:
    parent = await submitted(store)
    (held,) = await claimed(store)
    assert await store.split("w1", held, [("segmentation", {"original_name": "a"}), ("segmentation", {})]) == 2
    children = await store.children(parent)
    assert await store.get_fields(parent, ["status", "total_jobs"]) == ["waiting", "2"]
    first, second = await claimed(store, "w1", 5)
    await store.complete("w1", (first, {}))
    assert await store.get_fields(parent, ["status", "progress"]) == ["waiting", "49"]
    await store.fail("w1", second, "no image")
    (again,) = await claimed(store, "w2")
    assert (again.id, again.attempt, len(children)) == (parent, 2, 2)
    assert await store.get_fields(parent, ["losses"]) == ["0"]
    with pytest.raises(InvalidInput, match="split before"):
        await store.split("w2", again, [("segmentation", {})])


async def test_cancel_takes_the_children_along_and_fences_the_worker(store: JobStore) -> None:
    parent = await submitted(store)
    (held,) = await claimed(store)
    await store.split("w1", held, [("segmentation", {})] * 3)
    (child,) = await claimed(store)
    assert await store.cancel(parent, "someone") == 4
    assert await store.renew("w1", LEASE, [child]) == {child.id}
    assert await claimed(store) == []
    assert await store.cancel(parent, "someone") == 0
    assert (await store.queues(["segmentation"]))["segmentation"].waiting == 0
    with pytest.raises(NotFound):
        await store.cancel(new_id("segmentation"), "someone")


async def test_a_queue_entry_that_is_no_job_is_moved_aside(store: JobStore) -> None:
    queue = store.prefix + "queue:segmentation"
    await store.redis.zadd(queue, {"anonymous": 0})
    await store.redis.zadd(queue + ":anonymous", {"nonsense": 0, "segmentation:gone": 1})
    await store.redis.set(store.prefix + "job:segmentation:string", "not a hash")
    await store.redis.zadd(queue + ":anonymous", {"segmentation:string": 2})
    good = await submitted(store)
    found: list[str] = []
    for _ in range(4):
        found += [held.id for held in await claimed(store)]
    assert found == [good]
    assert (await store.queues(["segmentation"]))["segmentation"].dead == 3


async def test_forgetting_removes_everything_but_shared_objects(store: JobStore) -> None:
    first = await submitted(store, uses=("uploads/x",), retention=0, owner="o", batch="b", idempotency_key="k")
    second = await submitted(store, uses=("uploads/x",), retention=0)
    for held in await claimed(store, count=2):
        await store.complete("w1", (held, {}))
    due, _ = await store.due()
    assert set(due) == {first, second}
    assert await store.release_objects(first) == []
    assert await store.forget(first, []) == 1
    assert await store.release_objects(second) == ["uploads/x"]
    with pytest.raises(NotFound, match="uploads/x"):
        await submitted(store, uses=("uploads/x",))
    assert await store.forget(second, ["uploads/x"]) == 1
    left = {key async for key in store.redis.scan_iter(match=store.prefix.replace("{", "\\{") + "*")}
    counters = {
        store.prefix + name for name in ("sequence", "turn", "kinds", "depth:segmentation", "idle:segmentation")
    }
    assert {key for key in left if "hint:" not in key} <= counters


async def test_expire_runs_from_the_end_of_the_job(store: JobStore) -> None:
    clock = {"now": 1_000_000}
    slow = JobStore(store.redis, store.prefix, 0, lambda: str(clock["now"]))
    job_id = await submitted(slow)
    assert await slow.expire(job_id, 90)
    clock["now"] += 200_000
    assert (await slow.due())[0] == []
    (held,) = await claimed(slow)
    await slow.complete("w1", (held, {}))
    assert await slow.due() == ([], 90.0)
    clock["now"] += 90_000
    assert (await slow.due())[0] == [job_id]
    assert not await slow.expire(new_id("segmentation"), 1)


async def test_a_revived_job_is_a_new_one_that_names_the_old(store: JobStore) -> None:
    old = await submitted(store, facts={"original_name": "a.tif"})
    (held,) = await claimed(store)
    await store.fail("w1", held, "no")
    fresh = new_id("segmentation")
    assert await store.revive(old, fresh) == fresh
    assert await store.get_fields(fresh, ["status", "revived_from", "original_name", "reason"]) == [
        "new",
        old,
        "a.tif",
        None,
    ]
    assert await store.get_fields(old, ["status"]) == ["failed"]
    with pytest.raises(InvalidInput):
        await store.revive(fresh, new_id("segmentation"))


async def test_a_revived_job_has_what_was_given_and_nothing_that_its_attempts_found_out(store: JobStore) -> None:
    """A job type of a package, whose facts the store has never heard of; some are called as others' results are."""
    given = {"exposure_time": "0.5", "output_format": "csv", "scale": "2", "plate": "7, b"}
    old = (await store.submit(NewJob(new_id("wells"), given)))[0].id
    (held,) = await claimed(store, types=["wells"])
    await store.split("w1", held, [("well", {})], {"wells_found": "1", "plate": "another"})
    (part,) = await claimed(store, types=["well"])
    await store.complete("w1", (part, {}))
    (held,) = await claimed(store, types=["wells"])
    await store.fail("w1", held, "All wells are empty.", facts={"confluence": "0", "scale": "3", "gpu_seconds": "1"})
    ended = await store.get(old)
    assert ended is not None
    assert ended.fields.items() >= {**given, "wells_found": "1", "confluence": "0", "gpu_seconds": "1"}.items()
    for _ in range(2):
        fresh = new_id("wells")
        await store.revive(old, fresh)
        job = await store.get(fresh)
        assert job is not None
        kept = {"type", "owner", "priority", "max_attempts", "created_at", "created_ms", "revived_from"}
        assert {name: text for name, text in job.fields.items() if name not in {*kept, *MOVING_FIELDS}} == given
        await store.cancel(fresh, "somebody")
        old = fresh


@pytest.mark.parametrize(
    "wrong",
    [
        {"facts": {"original_name": "\ud800"}},
        {"facts": {"\ud800": "x"}},
        {"facts": {"scale": 2}},
        {"facts": {"parent": "another"}},
        {"owner": "\ud800"},
        {"idempotency_key": "\ud800"},
        {"uses": ("uploads/\ud800",)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_cannot_be_written_is_refused_with_a_sentence(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=r"UTF-8 can hold|The store itself writes parent"):
        a_job(**wrong)


async def test_names_of_any_bytes_come_back_as_they_were(store: JobStore) -> None:
    name = b"\xff, \xc3\xbc:/".decode("utf-8", "surrogateescape")
    job_id = await submitted(store, facts={"original_name": name}, idempotency_key=name)
    assert await store.get_fields(job_id, ["original_name", "idempotency_key"]) == [name, name]


async def test_retiring_workers_get_nothing_and_busy_ones_cannot_be_retired(store: JobStore) -> None:
    await submitted(store)
    await claimed(store, "busy")
    assert await store.retire("busy", "idle") == {"idle"}
    await submitted(store)
    claim = await store.claim("idle", ["segmentation"], 1, LEASE)
    assert (claim.jobs, claim.retiring) == ((), True)
    await store.unretire("idle")
    assert len(await claimed(store, "idle")) == 1


async def test_an_event_ends_the_wait_of_a_parked_worker(store: JobStore, notifications) -> None:  # type: ignore[no-untyped-def]
    async with notifications.watch("wake:w1") as watch:
        assert (await store.claim("w1", ["segmentation"], 1, LEASE)).jobs == ()
        await submitted(store)
        assert await watch.wait(5)
        assert len(await claimed(store, "w1")) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("losses", "many"),
        ("attempt", "x"),
        ("owner", None),
        ("priority", "high"),
        ("retention", "soon"),
        ("status", None),
    ],
)
async def test_a_damaged_record_stops_nobody_else(store: JobStore, field: str, value: str | None) -> None:
    """Whatever a hash lost while its job ran: it ends or is moved aside, and the next job is served."""
    clock = {"now": 1_000_000}
    slow = JobStore(store.redis, store.prefix, 0, lambda: str(clock["now"]))
    broken, sound = await submitted(slow), await submitted(slow)
    both = await claimed(slow, count=2)
    key = f"{store.prefix}job:{broken}"
    if value is None:
        await store.redis.hdel(key, field)
    else:
        await store.redis.hset(key, field, value)
    clock["now"] += 15_000
    outcomes, due = await slow.reclaim("j")
    assert {job_id for job_id, _outcome in outcomes} == {held.id for held in both}
    assert dict(outcomes)[sound] == "requeued"
    assert due is None
    again: list[str] = []
    for _ in range(3):
        again += [held.id for held in await claimed(slow, "w2", 2)]
    assert sound in again
    for held in [held for held in both if held.id == broken]:
        await slow.complete("w1", (Held(held.id, held.attempt + 1), {}))


async def test_a_record_that_is_no_hash_any_more_stops_nobody_else(store: JobStore) -> None:
    """Whoever touches it with others goes on with the others; then it is moved aside."""
    ids = [await submitted(store) for _ in range(3)]
    held = await claimed(store, count=3)
    broken, sound, third = held
    await store.redis.delete(f"{store.prefix}job:{broken.id}")
    await store.redis.set(f"{store.prefix}job:{broken.id}", "no job")
    assert await store.renew("w1", LEASE, held) == {broken.id}
    assert await store.advance("w1", (broken, "predicting", 1), (sound, "predicting", 1)) == [False, True]
    assert await store.complete("w1", (broken, {}), (sound, {})) == [False, True]
    with pytest.raises(LostLease):
        await store.fail("w1", broken, "no")
    with pytest.raises(NotFound):
        await store.cancel(broken.id, "somebody")
    assert not await store.expire(broken.id, 0)
    assert await store.release("w1", [broken, third]) == 1
    assert await store.evict("janitor", "w1", charge=True) == []
    late = JobStore(store.redis, store.prefix, 0, lambda: "99999999999999")
    assert await late.reclaim("janitor") == ([(broken.id, "aside")], None)
    assert [job.id for job in await claimed(store, "w2", 5)] == [third.id] == ids[2:]
    assert [job and job.id for job in await store.get_many(ids)] == [None, *ids[1:]]
    assert await store.fields_of_many([(job_id, ["status"]) for job_id in ids]) == [[None], ["done"], ["started"]]
    assert await store.get(broken.id) is None
    codes = {finding.code for finding in await audit(store, repair=True)}
    assert "malformed-job" in codes


async def test_only_the_holder_may_change_a_job(store: JobStore) -> None:
    """The token alone says which attempt is meant, not who is working on it."""
    job_id = await submitted(store)
    (held,) = await claimed(store, "w1")
    assert await store.renew("w2", LEASE, [held]) == {job_id}
    assert await store.advance("w2", (held, "predicting", 1)) == [False]
    assert await store.complete("w2", (held, {})) == [False]
    assert await store.release("w2", [held]) == 0
    with pytest.raises(LostLease):
        await store.fail("w2", held, "no")
    with pytest.raises(LostLease):
        await store.split("w2", held, [("segmentation", {})])
    assert await audit(store) == []
    assert await store.complete("w1", (held, {})) == [True]
