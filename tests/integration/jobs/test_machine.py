"""Every call of the store in random order by several workers with clock jumps, against a model in plain Python.

``KIOSK_TEST_LONG=1`` makes it run for many minutes instead of seconds.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared.errors import InvalidInput, LostLease, NotFound
from shared.jobs import Held, JobStore, NewJob, open_store, states
from shared.jobs.audit import audit
from tests.fixtures.redis import RedisServer
from tests.integration.jobs.reference import FINAL, WORKING, Model, ModelJob

T = TypeVar("T")
LONG = bool(os.environ.get("KIOSK_TEST_LONG"))
KINDS = ["segmentation", "tracking"]
OWNERS = ["anonymous", "key:a, b", "ü/✓"]
WORKERS = ["w1", "w2", "w3"]
OBJECTS = ["uploads/a.tif", "uploads/b,c:d.tif"]
LEASE = 15_000

workers = st.sampled_from(WORKERS)
kinds = st.lists(st.sampled_from(KINDS), min_size=1, max_size=2, unique=True)
FACTS = ["found", "output_url", "original_name"]
facts = st.dictionaries(st.sampled_from(FACTS), st.text(max_size=8), max_size=3)
picks = st.integers(0, 10_000)


class Machine(RuleBasedStateMachine):
    """Each rule makes a call on both sides and compares the answers; the invariants compare all that is kept."""

    server: RedisServer
    prefix: str

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.model = Model()
        self.store: JobStore = open_store(self.server.url, self.prefix)
        self.store._now = lambda: str(self.model.now)
        self.run(self.clear())
        self.tokens: list[tuple[str, Held]] = []
        self.seen: dict[str, dict[str, str]] = {}
        self.number = 0

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    async def clear(self) -> None:
        names = [name async for name in self.store.redis.scan_iter(match="*", count=1000)]
        if mine := [name for name in names if name.startswith(self.prefix)]:
            await self.store.redis.delete(*mine)

    def teardown(self) -> None:
        self.run(self.clear())
        self.run(self.store.aclose())
        self.loop.close()

    def fresh_id(self, kind: str) -> str:
        self.number += 1
        return f"{kind}:{self.number:032x}"

    def job(self, pick: int) -> str:
        ids = list(self.model.jobs) or [f"segmentation:{'f' * 32}"]
        return ids[pick % len(ids)]

    def token(self, pick: int) -> tuple[str, Held]:
        return self.tokens[-1 - pick % min(len(self.tokens), 12)]

    @initialize()
    def alive(self) -> None:
        for worker in WORKERS:
            self.run(self.store.heartbeat(worker, 15, {"types": ",".join(KINDS)}))

    # -- submitters --

    @rule(
        kind=st.sampled_from(KINDS),
        owner=st.sampled_from(OWNERS),
        priority=st.sampled_from([-100, 0, 0, 7]),
        most=st.integers(1, 3),
        retention=st.sampled_from([None, 0, 30]),
        key=st.sampled_from(["", "", "k1", "k,2"]),
        uses=st.lists(st.sampled_from(OBJECTS), max_size=2, unique=True).map(tuple),
        known=facts,
    )
    def submit(self, kind, owner, priority, most, retention, key, uses, known) -> None:  # type: ignore[no-untyped-def]
        new = NewJob(self.fresh_id(kind), known, owner, priority, most, retention, uses, key)
        before = self.model.by_key(owner, key)
        try:
            (answer,) = self.run(self.store.submit(new))
        except NotFound:
            assert before is None
            assert set(uses) & self.model.doomed
            return
        assert (answer.id, answer.created) == ((before.id, False) if before else (new.id, True))
        if before is None:
            assert not set(uses) & self.model.doomed
            job = ModelJob(new.id, owner, priority, most, retention, uses, key, given=dict(known))
            self.model.submit(job)

    @rule(pick=picks)
    def submit_again_under_the_same_id(self, pick: int) -> None:
        job_id = self.job(pick)
        if job_id in self.model.jobs and "." not in job_id:
            (answer,) = self.run(self.store.submit(NewJob(job_id)))
            assert (answer.id, answer.created) == (job_id, False)

    # -- workers --

    @rule(worker=workers, of=kinds, count=st.integers(1, 4))
    def claim(self, worker: str, of: list[str], count: int) -> None:
        claim = self.run(self.store.claim(worker, of, count, LEASE / 1000))
        assert claim.retiring == (worker in self.model.retiring)
        assert [job.id for job in claim.jobs] == self.model.claim(worker, of, count, LEASE)
        for job in claim.jobs:
            assert job.attempt == self.model.jobs[job.id].attempt
            self.tokens.append((worker, job.held))

    @precondition(lambda self: self.tokens)
    @rule(picked=st.lists(picks, min_size=1, max_size=4))
    def renew(self, picked: list[int]) -> None:
        worker, _held = self.token(picked[0])
        held = list({self.token(pick)[1] for pick in picked})
        assert self.run(self.store.renew(worker, LEASE / 1000, held)) == self.model.renew(held, LEASE, worker)

    @precondition(lambda self: self.tokens)
    @rule(
        picked=st.lists(picks, min_size=1, max_size=4),
        state=st.sampled_from(states.WORKING),
        progress=st.sampled_from([None, 0, 50]),
    )
    def advance(self, picked: list[int], state: str, progress: int | None) -> None:
        worker, _held = self.token(picked[0])
        tokens = [self.token(pick)[1] for pick in picked]
        jobs = [self.model.current(held, worker) for held in tokens]
        moved = self.run(self.store.advance(worker, *((held, state, progress) for held in tokens)))
        assert moved == [job is not None for job in jobs]
        for job in jobs:
            if job is not None:
                job.status = state

    @precondition(lambda self: self.tokens)
    @rule(picked=st.lists(picks, min_size=1, max_size=4), found=facts)
    def complete(self, picked: list[int], found: dict[str, str]) -> None:
        worker, _held = self.token(picked[0])
        batch = [(self.token(pick)[1], found) for pick in picked]
        expected = [self.model.complete(held, found, worker) for held, found in batch]
        assert self.run(self.store.complete(worker, *batch)) == expected

    @precondition(lambda self: self.tokens)
    @rule(pick=picks, again=st.sampled_from([None, 0, 5_000]), found=facts)
    def fail(self, pick: int, again: int | None, found: dict[str, str]) -> None:
        worker, held = self.token(pick)
        expected = self.model.fail(held, "why, oh: why", again, worker, found)
        later = None if again is None else again / 1000
        try:
            outcome = self.run(self.store.fail(worker, held, "why, oh: why", again_in=later, facts=found))
        except LostLease:
            outcome = ""
        assert outcome == expected

    @precondition(lambda self: self.tokens)
    @rule(picked=st.lists(picks, min_size=1, max_size=3))
    def release(self, picked: list[int]) -> None:
        worker, _held = self.token(picked[0])
        held = [self.token(pick)[1] for pick in picked]
        assert self.run(self.store.release(worker, held)) == self.model.release(held, worker)

    @precondition(lambda self: self.tokens)
    @rule(pick=picks, into=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3), found=facts)
    def split(self, pick: int, into: list[str], found: dict[str, str]) -> None:
        worker, held = self.token(pick)
        expected = self.model.split(held, into, found, worker)
        try:
            number = self.run(self.store.split(worker, held, [(kind, {}) for kind in into], found))
        except LostLease:
            number = -1
        except InvalidInput:
            number = -2
        assert number == expected

    # -- people --

    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        job_id = self.job(pick)
        try:
            number = self.run(self.store.cancel(job_id, "someone", "stop"))
        except NotFound:
            number = -1
        assert number == self.model.cancel(job_id)

    @rule(pick=picks, seconds=st.sampled_from([None, 0, 20]))
    def expire(self, pick: int, seconds: float | None) -> None:
        job_id = self.job(pick)
        assert self.run(self.store.expire(job_id, seconds)) == self.model.expire(job_id, seconds)

    @rule(pick=picks)
    def revive(self, pick: int) -> None:
        job_id = self.job(pick)
        fresh = self.fresh_id(job_id.partition(":")[0])
        try:
            revived = self.run(self.store.revive(job_id, fresh)) == fresh
        except InvalidInput:
            revived = False
        assert revived == self.model.revive(job_id, fresh)

    # -- housekeeping --

    @rule(ms=st.sampled_from([1, 4_000, 15_000, 60_000]))
    def time_passes(self, ms: int) -> None:
        self.model.now += ms

    @rule()
    def reclaim(self) -> None:
        outcomes, _due = self.run(self.store.reclaim("janitor"))
        assert dict(outcomes) == self.model.reclaim()

    @rule(worker=workers, charge=st.booleans())
    def evict(self, worker: str, charge: bool) -> None:
        taken = self.run(self.store.evict("janitor", worker, charge=charge))
        order = [job_id for job_id, _outcome in taken]
        assert set(order) == self.model.held(worker)
        self.model.evict(worker, charge)
        # Which of several goes to the very front is not promised: the model follows the store.
        numbers = sorted(self.model.jobs[job_id].order for job_id in order)
        for job_id, number in zip(order, reversed(numbers), strict=True):
            self.model.jobs[job_id].order = number
        self.run(self.store.heartbeat(worker, 15, {}))

    @rule(whole=st.booleans())
    def forget(self, whole: bool) -> None:
        ids, _due = self.run(self.store.due())
        assert set(ids) == self.model.due()
        for job_id in ids:
            objects = self.run(self.store.release_objects(job_id))
            assert set(objects or ()) == self.model.begin_forgetting(job_id)
            if whole:
                assert self.run(self.store.forget(job_id, objects or [])) == self.model.forget(
                    job_id, set(objects or ())
                )

    @rule(worker=workers)
    def retire_or_not(self, worker: str) -> None:
        if worker in self.model.retiring:
            self.run(self.store.unretire(worker))
            self.model.retiring.discard(worker)
        elif self.run(self.store.retire(worker)):
            assert not self.model.held(worker)
            self.model.retiring.add(worker)
        else:
            assert self.model.held(worker)

    # -- what must always be true --

    @invariant()
    def the_same_on_both_sides(self) -> None:
        self.run(self.compare())

    @invariant()
    def nothing_to_report(self) -> None:
        findings = self.run(audit(self.store))
        assert [f for f in findings if f.code != "overdue-lease"] == []

    async def compare(self) -> None:
        ids = {job_id async for job_id in self.store.all_ids()}
        assert ids == set(self.model.jobs)
        jobs = await self.store.get_many(sorted(ids))
        for job in filter(None, jobs):
            expected = self.model.jobs[job.id]
            assert (job.status, job.attempt, int(job.fields["losses"])) == (
                expected.status,
                expected.attempt,
                expected.losses,
            )
            assert expected.facts.items() <= job.fields.items()
            assert {name for name in FACTS if name in job.fields} <= expected.facts.keys()
            fixed = {name: text for name, text in job.fields.items() if name not in states.MOVING_FIELDS}
            assert self.seen.get(job.id, {}).items() <= fixed.items(), "a fact changed after it was written"
            self.seen[job.id] = fixed
        for kind in KINDS:
            await self.compare_queue(kind)
        for worker in WORKERS:
            assert await self.store.held(worker) == self.model.held(worker)

    async def compare_queue(self, kind: str) -> None:
        redis, prefix, model = self.store.redis, self.prefix, self.model
        jobs = [job for job in model.jobs.values() if job.type == kind]
        assert await redis.zrange(f"{prefix}queue:{kind}", 0, -1) == model.rings.get(kind, [])
        for owner in OWNERS:
            waiting = await redis.zrange(f"{prefix}queue:{kind}:{owner}", 0, -1)
            assert waiting == [job.id for job in model.queue(kind, owner)]
        leases = dict(await redis.zrange(f"{prefix}leases:{kind}", 0, -1, withscores=True))
        assert leases == {job.id: job.deadline for job in jobs if job.status in WORKING}
        assert set(await redis.zrange(f"{prefix}dead:{kind}", 0, -1)) == model.dead.get(kind, set())
        assert int(await redis.get(f"{prefix}depth:{kind}") or 0) == len(model.waiting(kind))
        assert {job.id for job in jobs if job.status in FINAL} >= {job.id for job in jobs if job.expiry is not None}


def test_the_store_does_what_the_model_does(redis_server: RedisServer, prefix: str) -> None:
    machine = type("BoundMachine", (Machine,), {"server": redis_server, "prefix": prefix})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=2_000 if LONG else 40,
            stateful_step_count=80 if LONG else 40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink] if LONG else [Phase.generate],
            report_multiple_bugs=False,
            print_blob=False,
        ),
    )
