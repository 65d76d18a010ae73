"""The worker loop on a real Redis, with handlers that need no image."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.consumer.worker import Capacity, Done, Failed, Handler, Split, Worker
from shared.errors import InvalidInput, Retry
from shared.jobs import Claim, Job, JobStore, NewJob, Notifications
from shared.jobs.audit import audit
from shared.jobs.model import new_id
from tests.fixtures.redis import RedisServer

TYPE = "segmentation"


@contextlib.asynccontextmanager
async def working(
    store: JobStore,
    notifications: Notifications,
    handler: Handler,
    grace: float = 5,
    name: str = "w1",
    **capacity: float,
) -> AsyncIterator[Worker]:
    worker = Worker(name, store, notifications, [TYPE], handler, Capacity(**capacity))  # type: ignore[arg-type]
    stopping = asyncio.Event()
    task = asyncio.create_task(worker.run(stopping, grace))
    try:
        yield worker
    finally:
        stopping.set()
        await task


async def submit(store: JobStore, count: int = 1, **fields: object) -> list[str]:
    return [answer.id for answer in await store.submit(*(NewJob(new_id(TYPE), **fields) for _ in range(count)))]  # type: ignore[arg-type]


async def until(store: JobStore, seen: Notifications, job_id: str) -> Job:
    """Wait for the end of a job by the events of its hash."""
    async with asyncio.timeout(20), seen.watch(f"job:{job_id}") as watch:
        while True:
            job = await store.get(job_id)
            if job is not None and job.final:
                return job
            await watch.wait(5)


async def done(_job: Job) -> Done:
    return Done({"answer": "42"})


async def test_jobs_are_done_in_parallel_up_to_the_slots(store: JobStore, notifications: Notifications) -> None:
    running, most = 0, 0

    async def handler(job: Job) -> Done:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return await done(job)

    ids = await submit(store, 50)
    async with working(store, notifications, handler, slots=8):
        jobs = [await until(store, notifications, job_id) for job_id in ids]
    assert {job.status for job in jobs} == {"done"}
    assert {job.fields["answer"] for job in jobs} == {"42"}
    assert 1 < most <= 8


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (InvalidInput("This is no image."), "failed", "This is no image."),
        (Retry("The model is away.", after=0.001), "failed", "The model is away."),
        (ZeroDivisionError("secret detail"), "failed", "An unexpected fault in the program (ZeroDivisionError"),
    ],
)
async def test_errors_end_a_job_by_their_meaning(
    store: JobStore, notifications: Notifications, error: Exception, status: str, reason: str
) -> None:
    async def handler(_job: Job) -> Done:
        raise error

    (job_id,) = await submit(store, max_attempts=1)
    async with working(store, notifications, handler):
        job = await until(store, notifications, job_id)
    assert job.status == status
    assert reason in job.fields["reason"]
    assert "secret" not in job.fields["reason"]


def _none() -> Any:
    return None


WRONG: list[Callable[[], Any]] = [
    _none,
    lambda: Done({"cells": 3}),  # type: ignore[dict-item]
    lambda: Done({"cells": None}),  # type: ignore[dict-item]
    lambda: Done({"name": "\ud800"}),
    lambda: Done({"parent": "another"}),
    lambda: Failed("\ud800"),
    lambda: Failed("no", {"owner": "somebody"}),
    lambda: Split([]),
    lambda: Split([(TYPE, {"status": "done"})]),
    lambda: Split([("No Type", {})]),
]


@pytest.mark.parametrize("outcome", WRONG, ids=range(len(WRONG)))
async def test_what_cannot_be_written_ends_its_job_and_no_other(
    store: JobStore, notifications: Notifications, outcome: Callable[[], Any]
) -> None:
    """A job type of a package may return anything."""

    async def handler(job: Job) -> Done:
        return outcome() if job.id == wrong else await done(job)  # type: ignore[no-any-return]

    wrong, *sound = await submit(store, 3, max_attempts=1)
    async with working(store, notifications, handler):
        for job_id in sound:
            assert (await until(store, notifications, job_id)).status == "done"
        ended = await until(store, notifications, wrong)
    assert ended.status == "failed"
    assert ended.fields["reason"]
    assert await audit(store) == []


async def test_a_job_that_is_split_again_is_failed(store: JobStore, notifications: Notifications) -> None:
    async def handler(job: Job) -> Done | Split:
        return await done(job) if "part" in job.fields else Split([(TYPE, {})])

    (job_id,) = await submit(store)
    async with working(store, notifications, handler):
        job = await until(store, notifications, job_id)
    assert (job.status, job.fields["reason"]) == ("failed", f"{job_id} was split before.")


@pytest.mark.parametrize(
    "error", [InvalidInput("no \ud800"), Retry("away \ud800", after=0.001)], ids=["input", "retry"]
)
async def test_a_sentence_that_cannot_be_written_is_written_as_far_as_possible(
    store: JobStore, notifications: Notifications, error: Exception
) -> None:
    async def handler(_job: Job) -> Done:
        raise error

    (job_id,) = await submit(store, max_attempts=1)
    async with working(store, notifications, handler):
        job = await until(store, notifications, job_id)
    assert str(error)[:-1] + "?" in job.fields["reason"]


async def test_a_failure_with_facts_keeps_them(store: JobStore, notifications: Notifications) -> None:
    async def handler(_job: Job) -> Failed:
        return Failed("All parts failed.", {"failures": "a=b"})

    (job_id,) = await submit(store)
    async with working(store, notifications, handler):
        job = await until(store, notifications, job_id)
    assert (job.status, job.fields["failures"]) == ("failed", "a=b")


async def test_a_split_job_is_gathered_when_its_parts_have_ended(store: JobStore, notifications: Notifications) -> None:
    async def handler(job: Job) -> Done | Split:
        if "part" in job.fields:
            return Done({"found": job.fields["part"]})
        children = await store.children(job.id)
        if not children:
            return Split([(TYPE, {})] * 3)
        found = [child.fields["found"] for child in await store.get_many(children) if child]
        return Done({"found": "+".join(found)})

    (job_id,) = await submit(store)
    async with working(store, notifications, handler, slots=2):
        job = await until(store, notifications, job_id)
    assert job.fields["found"] == "1+2+3"


async def test_stopping_hands_unfinished_jobs_back_uncharged(store: JobStore, notifications: Notifications) -> None:
    started = asyncio.Event()

    async def stuck(_job: Job) -> Done:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError("never")

    (job_id,) = await submit(store)
    async with working(store, notifications, stuck, grace=0.05):
        await started.wait()
    job = await store.get(job_id)
    assert job is not None
    assert (job.status, job.fields["losses"]) == ("new", "0")
    async with working(store, notifications, done, name="w2"):
        assert (await until(store, notifications, job_id)).status == "done"
    assert await store.workers() == []


async def test_what_a_stopped_worker_hands_back_runs_elsewhere_at_once(
    store: JobStore, notifications: Notifications
) -> None:
    started = asyncio.Event()

    async def stuck(_job: Job) -> Done:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError("never")

    slow = {"slots": 1, "lease": 600, "renew": 600, "reconcile": 600}  # only an event can bring it in time
    (job_id,) = await submit(store)
    async with contextlib.AsyncExitStack() as first, contextlib.AsyncExitStack() as second:
        await first.enter_async_context(working(store, notifications, stuck, grace=0.05, **slow))
        await started.wait()
        await second.enter_async_context(working(store, notifications, done, name="w2", **slow))
        (other,) = await submit(store)
        await until(store, notifications, other)
        await first.aclose()
        job = await until(store, notifications, job_id)
    assert (job.fields["updated_by"], job.fields["losses"], job.attempt) == ("w2", "0", 2)


async def test_a_worker_that_stops_is_woken_no_more(store: JobStore, notifications: Notifications) -> None:
    """Parked beside the job that it still finishes, it would be woken for work that it never takes."""
    started, finish, stop, idle = asyncio.Event(), asyncio.Event(), asyncio.Event(), f"{store.prefix}idle:{TYPE}"

    async def slow(_job: Job) -> Done:
        started.set()
        await finish.wait()
        return Done()

    waits = {"slots": 2, "lease": 600, "renew": 600, "reconcile": 600}  # only an event can bring work in time
    await submit(store)
    leaving = Worker("stopping", store, notifications, [TYPE], slow, Capacity(**waits))  # type: ignore[arg-type]
    task = asyncio.create_task(leaving.run(stop, grace=600))
    await started.wait()
    async with asyncio.timeout(60), working(store, notifications, done, name="other", **waits):
        while await store.redis.zcard(idle) < 2:
            await asyncio.sleep(0)
        await store.redis.set(f"{store.prefix}wake:stopping", "x")
        while await store.redis.zrange(idle, -1, -1) != ["stopping"]:  # of those parked the next to be woken
            await asyncio.sleep(0)
        stop.set()
        (job_id,) = await submit(store)
        assert (await until(store, notifications, job_id)).fields["updated_by"] == "other"
        finish.set()
        await task


async def test_stopping_lets_jobs_finish_within_the_grace(store: JobStore, notifications: Notifications) -> None:
    started, finish = asyncio.Event(), asyncio.Event()

    async def slow(_job: Job) -> Done:
        started.set()
        await finish.wait()
        return Done()

    (job_id,) = await submit(store)
    async with working(store, notifications, slow):
        await started.wait()
        asyncio.get_running_loop().call_soon(finish.set)
    assert (await until(store, notifications, job_id)).fields["attempt"] == "1"


async def test_a_canceled_job_stops_at_once(store: JobStore, notifications: Notifications) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    async def endless(_job: Job) -> Done:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        raise AssertionError("never")

    (job_id,) = await submit(store)
    async with working(store, notifications, endless, renew=60):
        await started.wait()
        await store.cancel(job_id, "someone")
        async with asyncio.timeout(10):
            await stopped.wait()
    assert (await until(store, notifications, job_id)).status == "canceled"


async def test_everything_works_without_notifications(
    store: JobStore, notifications: Notifications, redis_server: RedisServer, prefix: str
) -> None:
    deaf = Notifications(redis_server.url, prefix)  # never run: nothing is ever subscribed
    async with working(store, deaf, done, reconcile=0.05):
        (job_id,) = await submit(store)
        assert (await until(store, notifications, job_id)).status == "done"
    await deaf.aclose()


async def test_a_stop_during_a_claim_leaves_no_job_behind(store: JobStore, notifications: Notifications) -> None:
    """The answer to a claim comes after the wish to stop: its jobs go back at once and uncharged."""
    claiming, answer = asyncio.Event(), asyncio.Event()
    claim = store.claim

    async def slow_claim(*arguments: Any) -> Claim:
        claimed = await claim(*arguments)
        claiming.set()
        await answer.wait()
        return claimed

    async def stuck(_job: Job) -> Done:
        await asyncio.Event().wait()
        raise AssertionError("never")

    (job_id,) = await submit(store)
    store.claim = slow_claim  # type: ignore[method-assign]
    async with working(store, notifications, stuck, grace=0.05):
        await claiming.wait()
        asyncio.get_running_loop().call_soon(answer.set)
    assert await store.get_fields(job_id, ["status", "losses", "attempt"]) == ["new", "0", "1"]
    assert await store.held("w1") == set()


async def test_jobs_of_a_claim_whose_answer_was_lost_are_given_back(
    store: JobStore, notifications: Notifications
) -> None:
    """The server claims for this worker, but the worker never hears of it."""
    async with working(store, notifications, done, reconcile=0.05, renew=0.01):
        assert (await until(store, notifications, *await submit(store))).status == "done"
        await store.submit(NewJob(new_id("other")))
        (held,) = (await store.claim("w1", ["other"], 1, 60)).jobs
        job_id = held.id
        job = await _released(store, notifications, job_id)
    assert (job.status, job.fields["attempt"], job.fields["losses"]) == ("new", "1", "0")


async def _released(store: JobStore, seen: Notifications, job_id: str) -> Job:
    async with asyncio.timeout(20), seen.watch(f"job:{job_id}") as watch:
        while True:
            job = await store.get(job_id)
            if job is not None and job.status == "new":
                return job
            await watch.wait(5)


async def test_a_key_of_the_wrong_kind_is_waited_for(store: JobStore, notifications: Notifications) -> None:
    """Until somebody removes it; the auditor says which it is."""
    queue = f"{store.prefix}queue:{TYPE}"
    await store.redis.set(queue, "no queue")
    with capture_logs() as logs:
        async with working(store, notifications, done, reconcile=0.05):
            async with asyncio.timeout(20):
                while not any(line["event"] == "claim-failed" and "kiosk audit" in line["error"] for line in logs):
                    await asyncio.sleep(0.01)
            assert [finding.subject for finding in await audit(store)] == [f"queue:{TYPE}"]
            await store.redis.delete(queue)
            (job_id,) = await submit(store)
            assert (await until(store, notifications, job_id)).status == "done"


async def test_what_a_former_process_of_the_name_held_is_charged(store: JobStore, notifications: Notifications) -> None:
    """A job that makes its container fall again and again is buried in the end."""
    (job_id,) = await submit(store, max_attempts=2)
    await store.claim("w1", [TYPE], 1, 60)
    async with working(store, notifications, done):
        job = await until(store, notifications, job_id)
    assert (job.status, job.fields["attempt"], job.fields["losses"]) == ("done", "2", "1")


async def test_a_worker_that_lost_its_lease_stops_that_job_only(store: JobStore, notifications: Notifications) -> None:
    started, stopped, finish = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(job: Job) -> Done:
        if "slow" not in job.fields:
            return Done()
        started.set()
        try:
            await finish.wait()
        finally:
            stopped.set()
        return Done()

    (job_id,) = await submit(store, facts={"slow": "1"}, max_attempts=5)
    async with working(store, notifications, handler, renew=0.02):
        await started.wait()
        await store.evict("janitor", "w1", charge=True)
        async with asyncio.timeout(10):
            await stopped.wait()
        finish.set()
        job = await until(store, notifications, job_id)
    assert (job.status, job.fields["attempt"], job.fields["losses"]) == ("done", "2", "1")
