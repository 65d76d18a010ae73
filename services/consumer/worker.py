"""The worker: claims jobs, keeps their leases, runs each as a task, and ends it in the store.

It knows nothing of images: what a job means is up to the `Handler` it is given. All waiting is by events; the
reconcile period only bounds what a lost event can cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from structlog.contextvars import bind_contextvars

from services.consumer import metrics
from shared.errors import InvalidInput, LostLease, Retry
from shared.jobs import Held, Job, JobStore, Notifications, Watch
from shared.jobs.connection import COMMAND_TIMEOUT
from shared.jobs.keys import WAKE
from shared.jobs.model import check_type, fault_in, is_writable
from shared.jobs.working import BATCH
from shared.lifecycle import ended
from shared.telemetry import attach, context_of, span, trace_id

log = structlog.get_logger(__name__)


def _checked(facts: Mapping[str, str]) -> None:
    if sentence := fault_in(facts):
        raise ValueError(sentence)


@dataclass(frozen=True)
class Done:
    """The job is done; ``facts`` is what was found out, written once into its hash.

    Raises:
        ValueError: the facts are none that can be written; so with the others.
    """

    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse at the place of the mistake what would stop the results of other jobs as well."""
        _checked(self.facts)


@dataclass(frozen=True)
class Split:
    """The job waits for its parts: (job type, facts) of each; it is claimed once more when the last has ended."""

    children: Sequence[tuple[str, Mapping[str, str]]]
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be written."""
        _checked(self.facts)
        for job_type, facts in self.children:
            check_type(job_type)
            _checked(facts)


@dataclass(frozen=True)
class Failed:
    """The job has failed by its input, with a sentence for people and what was found out all the same."""

    reason: str
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be written."""
        _checked({"reason": self.reason, **self.facts})


T = TypeVar("T")
Outcome = Done | Split | Failed
Handler = Callable[[Job], Awaitable[Outcome]]

#: Seconds until a failed attempt is made again; doubled with each loss, up to some minutes.
_FIRST_DELAY, _LONGEST_DELAY = 2.0, 300.0


@dataclass
class Capacity:
    """How many jobs at once, for how long each is leased, how often renewed, and how often the truth is read (s)."""

    slots: int = 16
    lease: float = 15.0
    renew: float = 5.0
    reconcile: float = 5.0


@dataclass(slots=True)
class _Attempt:
    """A job in flight, by the token that it was claimed with."""

    job: Job
    held: Held
    task: asyncio.Task[None] | None = None


class Worker:
    """One worker process's share of the work."""

    def __init__(
        self,
        name: str,
        store: JobStore,
        notifications: Notifications,
        types: Sequence[str],
        handler: Handler,
        capacity: Capacity,
    ) -> None:
        """Prepare; nothing is claimed before `run`."""
        self.name = name
        self._store = store
        self._notifications = notifications
        self._types = tuple(types)
        self._handler = handler
        self._capacity = capacity
        self._running: dict[str, _Attempt] = {}
        self._claimable = asyncio.Event()
        self._renew_now = asyncio.Event()
        self._finished: list[tuple[_Attempt, Done]] = []
        self._unwritten = 0  # jobs that need no slot any more, but are held until their result is written
        self._some_finished = asyncio.Event()
        self._parked = False
        self._stopping = False
        self._strays_looked_for = 0.0  # by the loop's clock
        self._log: Any = log
        self._jobs_ended = 0
        self.facts: dict[str, str] = {"types": ",".join(self._types), "slots": str(capacity.slots)}

    async def run(self, stopping: asyncio.Event, grace: float) -> None:
        """Work until told to stop; then finish within ``grace`` seconds and hand the rest back."""
        self._log = log.bind()  # resolved once: a lazy logger costs more for each line than a claim does
        for job_type in self._types:
            metrics.running.labels(job_type).set_function(functools.partial(self._number_running, job_type))
        async with self._notifications.watch(WAKE + self.name, using=Watch(self._woken)):
            keepers = [
                asyncio.create_task(work, name=name)
                for name, work in (
                    ("keep-leases", self._keep_leases()),
                    ("complete", self._complete_in_batches()),
                )
            ]
            claiming = asyncio.create_task(self._claim_until_told(), name="claim")
            try:
                await _first_end([*keepers, claiming], stopping)
            finally:
                # A claim under way is not cut off: its jobs would be nobody's until their leases end.
                self._stopping = True
                self._claimable.set()
                await asyncio.wait({claiming}, timeout=2 * COMMAND_TIMEOUT)
                await ended(claiming)
                with contextlib.suppress(Retry):  # then another finds the work at its reconcile period
                    await self._store.unpark(self.name, self._types)
                # The keepers outlive the claiming: leases are renewed and results written while jobs finish.
                await self._stop(grace)
                await ended(*keepers)

    async def _charge_former_life(self) -> None:
        """What a former process of this name held when it fell, as in a restarted container, costs its jobs a loss."""
        taken = await _insist(lambda: self._store.evict(self.name, self.name, charge=True))
        for job_id, outcome in taken:
            self._log.warning("former-life-charged", job=job_id, outcome=outcome)

    async def _claim_until_told(self) -> None:
        await self._charge_former_life()
        self._renew_now.set()  # that also took this life off the list of workers
        while not self._stopping:
            self._claimable.clear()
            due = await self._claim(self._free()) if self._free() > 0 else None
            period = self._capacity.reconcile if due is None else min(due, self._capacity.reconcile)
            await _wait(self._claimable, period)

    def _free(self) -> int:
        """Return how many jobs may be claimed; a result that is being written takes no slot, up to as many as slots."""
        slots, held = self._capacity.slots, len(self._running)
        return min(slots - (held - self._unwritten), 2 * slots - held)

    async def _claim(self, free: int) -> float | None:
        try:
            claim = await self._store.claim(self.name, self._types, free, self._capacity.lease)
        except Retry as error:
            self._log.warning("claim-failed", error=str(error))
            return error.after
        self._parked = len(claim.jobs) < free
        for job in claim.jobs:
            self._start(job)
        await asyncio.sleep(0)  # the jobs first: whatever is done before the next wait delays them
        with contextlib.suppress(Retry):
            await self._give_back_strays()
        return claim.next_due

    async def _give_back_strays(self) -> None:
        """Hand back what this worker holds without knowing: the answer to a claim was lost with its connection."""
        now = asyncio.get_running_loop().time()
        if now - self._strays_looked_for < self._capacity.renew:
            return
        strays = await self._store.held(self.name) - self._running.keys()
        jobs = await self._store.get_many(sorted(strays)) if strays else []
        # One that was given to another meanwhile is the other's: its token is not shown.
        held = [job.held for job in jobs if job is not None and job.fields.get("updated_by") == self.name]
        if released := await self._store.release(self.name, held):
            self._log.warning("strays-given-back", jobs=released)
        self._strays_looked_for = now

    def _start(self, job: Job) -> None:
        attempt = _Attempt(job, job.held)
        if (before := self._running.get(job.id)) and before.task:
            before.task.cancel()  # an older attempt, which lost its lease
        self._running[job.id] = attempt
        attempt.task = asyncio.create_task(self._handle(attempt), name=job.id)

    def _number_running(self, job_type: str) -> int:
        return sum(1 for attempt in self._running.values() if attempt.job.type == job_type)

    def _ended(self, attempt: _Attempt) -> None:
        if self._running.get(attempt.job.id) is attempt:
            del self._running[attempt.job.id]
        if not self._parked:
            self._claimable.set()

    def _woken(self) -> None:
        """There may be work, or a job that is held may have been canceled, or events may have been missed."""
        self._claimable.set()
        if self._running:
            self._renew_now.set()

    async def _handle(self, attempt: _Attempt) -> None:
        job, number = attempt.job, attempt.held.attempt
        bind_contextvars(job=job.id, attempt=number, owner=job.owner)  # of this task alone: it ends with the job
        with span(f"job {job.type}", context_of(job.fields), job__id=job.id, job__attempt=number):
            self._log.debug("job-claimed", losses=job.fields.get("losses"))
            try:
                await self._end(attempt, await self._handler(job))
            except asyncio.CancelledError:
                self._ended(attempt)
                raise
            except Exception as error:  # noqa: BLE001  # whatever a pipeline raises ends this attempt, never the worker
                await self._end_after_error(attempt, error)

    async def _end(self, attempt: _Attempt, outcome: Outcome) -> None:
        held = attempt.held
        if isinstance(outcome, Done):
            self._finished.append((attempt, outcome))
            self._unwritten += 1
            self._some_finished.set()
            if not self._parked:
                self._claimable.set()
        elif isinstance(outcome, Split):
            await self._change(
                attempt, "split", lambda: self._store.split(self.name, held, outcome.children, outcome.facts)
            )
        elif isinstance(outcome, Failed):
            await self._change(
                attempt, "failed", lambda: self._store.fail(self.name, held, outcome.reason, facts=outcome.facts)
            )
        else:
            raise TypeError(f"A job must end as Done, Split or Failed, not as {outcome!r}.")

    async def _end_after_error(self, attempt: _Attempt, error: Exception) -> None:
        held = attempt.held
        if isinstance(error, LostLease):
            self._lost(attempt)
        elif isinstance(error, InvalidInput):
            await self._change(attempt, "failed", lambda: self._store.fail(self.name, held, _writable(str(error))))
        else:
            reason, after = _told(error)
            delay = after or delay_after(int(attempt.job.fields.get("losses", "0")))
            self._log.warning("attempt-failed", reason=reason, exc_info=None if isinstance(error, Retry) else error)
            await self._change(attempt, "retried", lambda: self._store.fail(self.name, held, reason, again_in=delay))

    async def _change(self, attempt: _Attempt, outcome: str, change: Callable[[], Awaitable[object]]) -> None:
        try:
            await _insist(change)
        except LostLease:
            self._lost(attempt)
        else:
            _of(metrics.jobs, attempt.job.type, outcome).inc()
            self._jobs_ended += 1
            self._log.info("job-ended", outcome=outcome)
            self._ended(attempt)

    def _lost(self, attempt: _Attempt) -> None:
        self._log.warning("lease-lost", job=attempt.job.id)
        _of(metrics.lost_leases, attempt.job.type).inc()
        self._ended(attempt)

    async def _complete_in_batches(self) -> None:
        """Write results: all that have gathered while the last batch was being written go in one call."""
        while True:
            await self._some_finished.wait()
            batch, self._finished = self._finished[:BATCH], self._finished[BATCH:]
            if not self._finished:
                self._some_finished.clear()
            await self._complete(batch)

    async def _complete(self, batch: list[tuple[_Attempt, Done]]) -> None:
        results = [(attempt.held, done.facts) for attempt, done in batch]
        written = await _insist(lambda: self._store.complete(self.name, *results))
        self._unwritten -= len(batch)
        done_by_type: Counter[str] = Counter()
        for (attempt, done), accepted in zip(batch, written, strict=True):
            if not accepted:
                self._lost(attempt)
                continue
            done_by_type[attempt.job.type] += 1
            if self._log.is_enabled_for(logging.INFO):
                with attach(context_of(attempt.job.fields)):  # this batch belongs to no one trace
                    self._log.info("job-done", job=attempt.job.id, seconds=done.facts.get("total_time"))
            self._ended(attempt)
        for job_type, number in done_by_type.items():
            _of(metrics.jobs, job_type, "done").inc(number)
        self._jobs_ended += done_by_type.total()

    async def _keep_leases(self) -> None:
        while True:
            try:
                facts = {**self.facts, "ended": str(self._jobs_ended)}
                await self._store.heartbeat(self.name, 3 * self._capacity.renew, facts)
                await self._renew()
            except Retry as error:
                self._log.warning("renewal-failed", error=str(error))
            await _wait(self._renew_now, self._capacity.renew)
            self._renew_now.clear()

    async def _renew(self) -> None:
        held = {attempt.held: attempt for attempt in self._running.values()}
        if not held:
            return
        lost = await self._store.renew(self.name, self._capacity.lease, held)
        metrics.renewals.inc(len(held))
        for token, attempt in held.items():
            if token.id in lost and attempt.task is not None and not attempt.task.done():
                self._log.warning("lease-lost", job=token.id)
                _of(metrics.lost_leases, attempt.job.type).inc()
                attempt.task.cancel()

    async def _stop(self, grace: float) -> None:
        log.info("worker-stopping", running=len(self._running), grace=grace)
        deadline = asyncio.get_running_loop().time() + grace
        while self._running and (left := deadline - asyncio.get_running_loop().time()) > 0:
            self._parked = False
            self._claimable.clear()
            await _wait(self._claimable, left)
        unfinished = list(self._running.values())
        await ended(*(attempt.task for attempt in unfinished if attempt.task))
        try:
            released = await self._store.release(self.name, [attempt.held for attempt in unfinished])
            await self._store.leave(self.name, self._types)
        except Retry as error:
            log.warning("leaving-not-written", unfinished=len(unfinished), error=str(error))
        else:
            log.info("worker-stopped", released=released)


async def _insist(change: Callable[[], Awaitable[T]]) -> T:
    """Make a change, again and again while Redis is away: the token keeps it from being made by two."""
    pause = 0.1
    while True:
        try:
            return await change()
        except Retry as error:
            log.warning("ending-delayed", error=str(error), again_in=pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, 5.0)


async def _wait(event: asyncio.Event, period: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(period):
            await event.wait()


def delay_after(losses: int) -> float:
    """Return the seconds until a job is tried again that was lost or failed so often before."""
    return float(min(_LONGEST_DELAY, _FIRST_DELAY * 2**losses))


def _told(error: Exception) -> tuple[str, float | None]:
    """Return the sentence that a user may see, and seconds until the next try if the error knows."""
    if isinstance(error, Retry):
        return _writable(str(error)), error.after
    return f"An unexpected fault in the program ({type(error).__name__}; trace {trace_id()}).", None


def _writable(sentence: str) -> str:
    return sentence if is_writable(sentence) else sentence.encode("utf-8", "replace").decode()


async def _first_end(tasks: list[asyncio.Task[None]], stopping: asyncio.Event) -> None:
    """Wait for the wish to stop; a task that ends before that raises here."""
    wish = asyncio.create_task(stopping.wait(), name="stopping")
    try:
        done, _pending = await asyncio.wait([*tasks, wish], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {wish}:
            task.result()
    finally:
        await ended(wish)


@functools.cache
def _of(metric: Any, *labels: str) -> Any:
    """Return a metric of some labels; looked up anew for each job it would cost more than the job's turn."""
    return metric.labels(*labels)
