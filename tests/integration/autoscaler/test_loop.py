"""The loop with a real Redis and a scaler that only remembers what it was told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from services.autoscaler.decide import Decision, Fleet, Member
from services.autoscaler.loop import Loop
from services.autoscaler.settings import PaceSettings
from services.autoscaler.targets import Budget, Target
from shared.errors import Retry
from shared.jobs import JobStore, JobType, NewJob, Notifications
from shared.jobs.model import new_id

TARGET = Target(
    name="work", queues={"work": 1.0}, jobs_per_replica=1, max_replicas=3, cooldown=0, stabilisation_window=0
)


class Remembering:
    """A scaler of names in memory."""

    def __init__(self, replicas: int = 0, *, ordinals: bool = False) -> None:
        self.names = [f"w-{i}" for i in range(replicas)]
        self.ordinals = ordinals
        self.told: list[tuple[int, tuple[str, ...]]] = []
        self.kept: list[str] = []
        self.trouble = ""
        self.acts: bool | Retry = True
        self.scaled = asyncio.Event()

    async def run(self, _changed: Callable[[], None]) -> None:
        await asyncio.Event().wait()

    async def acting(self) -> bool:
        if isinstance(self.acts, Retry):
            raise self.acts
        return self.acts

    async def observe(self, _target: Target) -> Fleet:
        members = (Member(name, ordinal=i if self.ordinals else None) for i, name in enumerate(self.names))
        return Fleet(len(self.names), tuple(members))

    async def busy(self, _target: Target, _fleet: Fleet) -> frozenset[str]:
        return frozenset()

    async def scale(self, _target: Target, replicas: int, going: Sequence[str]) -> None:
        if self.trouble:
            raise Retry(self.trouble)
        self.told.append((replicas, tuple(going)))
        staying = [name for name in self.names if name not in going]
        self.names = staying + [f"n-{i}" for i in range(replicas - len(staying))]
        self.scaled.set()

    async def keep(self, _target: Target, names: Sequence[str]) -> None:
        self.kept += names

    async def explain(self, _target: Target, _decision: Decision) -> None:
        pass

    async def check(self) -> None:
        pass

    async def aclose(self, _grace: float) -> None:
        pass


def loop_of(
    store: JobStore, notifications: Notifications, scaler: Remembering, target: Target = TARGET, reconcile: float = 0.3
) -> Loop:
    return Loop(store, notifications, scaler, [target], pace=PaceSettings(busy_share=1), reconcile=reconcile)


async def work(store: JobStore, *workers: str) -> None:
    """Let workers hold a job each."""
    for worker in workers:
        await store.submit(NewJob(new_id("work")))
        await store.heartbeat(worker, 60.0, {"types": "work"})
        assert (await store.claim(worker, ["work"], 1, 60.0)).jobs


async def test_without_notifications_it_acts_at_the_reconcile_period(
    store: JobStore, notifications: Notifications
) -> None:
    silent = Notifications("redis://127.0.0.1:1", store.prefix)  # never run: no event ever comes
    scaler = Remembering()
    task = asyncio.create_task(loop_of(store, silent, scaler).run())
    await store.submit(NewJob(new_id("work")))
    async with asyncio.timeout(10):
        await scaler.scaled.wait()
    assert scaler.told == [(1, ())]
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await silent.aclose()


async def test_with_notifications_it_does_not_wait_for_that(store: JobStore, notifications: Notifications) -> None:
    scaler = Remembering()
    task = asyncio.create_task(loop_of(store, notifications, scaler, reconcile=3600).run())
    for _ in range(50):  # until it sleeps for an hour
        await store.ping()
    await store.submit(NewJob(new_id("work")))
    async with asyncio.timeout(10):
        await scaler.scaled.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_only_those_that_hold_nothing_go_and_they_are_marked(
    store: JobStore, notifications: Notifications
) -> None:
    scaler = Remembering(3)
    await work(store, "w-0")
    loop = loop_of(store, notifications, scaler)
    await loop.look()
    await loop.look()
    assert scaler.told == [(1, ("w-1", "w-2"))]
    await store.submit(NewJob(new_id("work")))
    assert (await store.claim("w-1", ["work"], 1, 60.0)).retiring


async def test_one_that_got_a_job_in_the_last_moment_stays(
    store: JobStore, notifications: Notifications, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaler = Remembering(2)
    loop = loop_of(store, notifications, scaler)
    retire = store.retire

    async def late(*names: str) -> set[str]:
        await work(store, "w-1")  # between the decision and the marking
        return await retire(*names)

    monkeypatch.setattr(store, "retire", late)
    await loop.look()
    await loop.look()
    assert scaler.told == [(1, ("w-0",))]


async def test_a_stateful_set_keeps_what_lies_below_one_that_got_a_job(
    store: JobStore, notifications: Notifications, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaler = Remembering(3, ordinals=True)
    loop = loop_of(store, notifications, scaler, TARGET.model_copy(update={"kind": "StatefulSet"}))
    retire = store.retire

    async def late(*names: str) -> set[str]:
        await work(store, "w-1")
        return await retire(*names)

    monkeypatch.setattr(store, "retire", late)
    await loop.look()
    await loop.look()
    assert scaler.told == [(2, ("w-2",))]
    assert not (await store.claim("w-0", ["work"], 1, 60.0)).retiring, "one that stays is not marked"


async def test_when_the_removal_fails_the_workers_work_again(store: JobStore, notifications: Notifications) -> None:
    scaler = Remembering(2)
    scaler.trouble = "The API is away."
    loop = loop_of(store, notifications, scaler)
    await loop.look()
    await loop.look()
    assert not scaler.told
    await store.submit(NewJob(new_id("work")))
    claim = await store.claim("w-0", ["work"], 1, 60.0)
    assert claim.jobs
    said = json.loads((await store.decisions())["work"])
    assert said["code"] == "hold"
    assert "The API is away" in said["reason"]
    await store.complete("w-0", (claim.jobs[0].held, {}))


async def test_where_nobody_can_lead_it_holds_and_says_so_and_one_that_follows_says_nothing(
    store: JobStore, notifications: Notifications
) -> None:
    scaler, target = Remembering(1), TARGET.model_copy(update={"name": "work-of-a-follower", "max_replicas": 1})
    loop = loop_of(store, notifications, scaler, target)
    await store.submit(NewJob(new_id("work")))
    await loop.look()
    assert _figure("kiosk_autoscaler_replicas", target) == 1
    scaler.acts = Retry("It is not known who leads: the API is away.")
    await loop.look()
    said = json.loads((await store.decisions())[target.name])
    assert (said["code"], said["reason"]) == ("hold", "Held: It is not known who leads: the API is away.")
    assert _figure("kiosk_autoscaler_held", target) == 1
    scaler.acts = False
    await loop.look()
    assert _figure("kiosk_autoscaler_held", target) is None, "it would stand beside that of the leader for ever"
    assert _figure("kiosk_autoscaler_replicas", target) is None
    assert not scaler.told


async def test_the_days_account_outlives_the_process(store: JobStore, notifications: Notifications) -> None:
    now = [1_700_000_000.0]
    target = TARGET.model_copy(
        update={"max_replicas": 9, "gpus_per_replica": 1.0, "budget": Budget(gpu_hours_per_day=10)}
    )

    def fresh() -> Loop:
        pace = PaceSettings(busy_share=1)
        scaler = Remembering(9)
        return Loop(store, notifications, scaler, [target], pace=pace, reconcile=0.3, clock=lambda: now[0])

    await store.submit(*(NewJob(new_id("work")) for _ in range(9)))
    first = fresh()
    await first.look()
    now[0] += 3600
    await first.look()
    now[0] += 60
    await fresh().look()
    said = json.loads((await store.decisions())["work"])
    assert said["spent_hours"] == pytest.approx(9 * (1 + 1 / 60))
    assert "9.2 of the day's 10.0 replica-hours are used" in said["reason"]


async def test_equal_troubles_are_logged_once_a_minute(store: JobStore, notifications: Notifications) -> None:
    scaler = Remembering()
    scaler.acts = Retry("The API is away.")
    loop = loop_of(store, notifications, scaler)
    with capture_logs() as logged:
        for _ in range(20):
            await loop.look()
    assert [line["log_level"] for line in logged if line["event"] == "autoscaler-trouble"].count("warning") == 1


def _figure(name: str, target: Target) -> float | None:
    return REGISTRY.get_sample_value(name, {"target": target.name})


async def test_marks_left_by_a_predecessor_are_taken_off_when_there_is_work(
    store: JobStore, notifications: Notifications
) -> None:
    scaler = Remembering(1)
    await store.heartbeat("w-0", 60.0, {"types": "work"})
    await store.retire("w-0")
    await store.submit(NewJob(new_id("work")))
    await loop_of(store, notifications, scaler).look()
    assert scaler.kept == ["w-0"]
    assert (await store.claim("w-0", ["work"], 1, 60.0)).jobs


async def test_a_target_without_queues_serves_all_that_are_announced(
    store: JobStore, notifications: Notifications
) -> None:
    await store.announce(JobType("alpha"), JobType("beta"))
    await store.submit(NewJob(new_id("alpha")), NewJob(new_id("beta")))
    scaler = Remembering()
    await loop_of(store, notifications, scaler, TARGET.model_copy(update={"queues": {}})).look()
    assert scaler.told == [(2, ())]


async def test_what_kiosk_status_shows(store: JobStore, notifications: Notifications) -> None:
    target = TARGET.model_copy(update={"service_seconds": 10.0, "price_per_hour": 3.6})
    scaler = Remembering(1)
    await store.submit(*(NewJob(new_id("work")) for _ in range(2)))
    await loop_of(store, notifications, scaler, target).look()
    said = json.loads((await store.decisions())["work"])
    assert (said["code"], said["actual"], said["replicas"], said["waiting"]) == ("up", 1, 2, 2)
    assert said["reason"] == "2 waiting and 0 running need 2 (1 jobs each): 1 → 2."
    assert (said["empty_in"], said["cost"]) == (pytest.approx(20), pytest.approx(0.02))
