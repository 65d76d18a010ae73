"""The worker: claims jobs, keeps their leases, runs each as a task, and ends it in the store.

It knows nothing of images: what a job means is up to the `Handler` it is given. All waiting is by events; the
reconcile period only bounds what a lost event can cost.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from services.consumer import metrics
from shared.errors import InvalidInput, LostLease, Retry
from shared.jobs import Held, Job, JobStore, Notifications, Watch
from shared.jobs.keys import WAKE
from shared.telemetry import bind, context_of, span, trace_id

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Done:
    """The job is done; ``facts`` is what was found out, written once into its hash."""

    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """The job waits for its parts: (job type, facts) of each; it is claimed once more when the last has ended."""

    children: Sequence[tuple[str, Mapping[str, str]]]
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """The job has failed by its input, with a sentence for people and what was found out all the same."""

    reason: str
    facts: Mapping[str, str] = field(default_factory=dict)


T = TypeVar("T")
Outcome = Done | Split | Failed
Handler = Callable[[Job], Awaitable[Outcome]]

#: Seconds until a failed attempt is made again; doubled with each loss.
_FIRST_DELAY = 2.0


@dataclass
class Capacity:
    """How many jobs at once, for how long each is leased, how often renewed, and how often the truth is read (s)."""

    slots: int = 16
    lease: float = 15.0
    renew: float = 5.0
    reconcile: float = 5.0


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
        self._running: dict[str, tuple[Held, asyncio.Task[None]]] = {}
        self._claimable = asyncio.Event()
        self._renew_now = asyncio.Event()
        self._finished: asyncio.Queue[tuple[Job, Done]] = asyncio.Queue()
        self._parked = False
        self._jobs_ended = 0
        self.facts: dict[str, str] = {"types": ",".join(self._types), "slots": str(capacity.slots)}

    async def run(self, stopping: asyncio.Event, grace: float) -> None:
        """Work until told to stop; then finish within ``grace`` seconds and hand the rest back."""
        async with self._notifications.watch(WAKE + self.name) as watch:
            keepers = [
                asyncio.create_task(work, name=name)
                for name, work in (
                    ("listen", self._listen(watch)),
                    ("keep-leases", self._keep_leases()),
                    ("complete", self._complete_in_batches()),
                )
            ]
            claiming = asyncio.create_task(self._claim_for_ever(), name="claim")
            try:
                await _first_end([*keepers, claiming], stopping)
            finally:
                # The keepers outlive the claiming: leases are renewed and results written while jobs finish.
                await _cancelled(claiming)
                await self._stop(grace)
                await _cancelled(*keepers)

    async def _claim_for_ever(self) -> None:
        while True:
            self._claimable.clear()
            free = self._capacity.slots - len(self._running)
            due = await self._claim(free) if free > 0 else None
            period = self._capacity.reconcile if due is None else min(due, self._capacity.reconcile)
            await _wait(self._claimable, period)

    async def _claim(self, free: int) -> float | None:
        try:
            claim = await self._store.claim(self.name, self._types, free, self._capacity.lease)
        except Retry as error:
            log.warning("claim-failed", error=str(error))
            return error.after
        self._parked = len(claim.jobs) < free
        for job in claim.jobs:
            self._start(job)
        return claim.next_due

    def _start(self, job: Job) -> None:
        task = asyncio.create_task(self._handle(job), name=job.id)
        self._running[job.id] = (job.held, task)
        metrics.running.labels(job.type).inc()

    def _ended(self, job: Job) -> None:
        if self._running.get(job.id, (None,))[0] == job.held:
            del self._running[job.id]
        metrics.running.labels(job.type).dec()
        if not self._parked:
            self._claimable.set()

    async def _listen(self, watch: Watch) -> None:
        while True:
            woken = await watch.wait(self._capacity.reconcile)
            self._claimable.set()
            if woken and self._running:
                self._renew_now.set()

    async def _handle(self, job: Job) -> None:
        with (
            bind(job=job.id, attempt=job.attempt, owner=job.owner),
            span(f"job {job.type}", context_of(job.fields), job__id=job.id, job__attempt=job.attempt),
        ):
            log.debug("job-claimed", losses=job.fields.get("losses"))
            try:
                outcome = await self._handler(job)
            except asyncio.CancelledError:
                self._ended(job)
                raise
            except Exception as error:  # noqa: BLE001  # whatever a pipeline raises ends this attempt, never the worker
                await self._end_after_error(job, error)
            else:
                await self._end(job, outcome)

    async def _end(self, job: Job, outcome: Outcome) -> None:
        if isinstance(outcome, Done):
            self._finished.put_nowait((job, outcome))
            return
        if isinstance(outcome, Split):
            await self._change(
                job, "split", lambda: self._store.split(self.name, job.held, outcome.children, outcome.facts)
            )
        else:
            await self._change(
                job, "failed", lambda: self._store.fail(self.name, job.held, outcome.reason, facts=outcome.facts)
            )

    async def _end_after_error(self, job: Job, error: Exception) -> None:
        if isinstance(error, LostLease):
            self._lost(job)
        elif isinstance(error, InvalidInput):
            await self._change(job, "failed", lambda: self._store.fail(self.name, job.held, str(error)))
        else:
            reason, after = _told(error)
            delay = after or _FIRST_DELAY * 2 ** int(job.fields.get("losses", "0"))
            log.warning("attempt-failed", reason=reason, exc_info=None if isinstance(error, Retry) else error)
            await self._change(job, "retried", lambda: self._store.fail(self.name, job.held, reason, again_in=delay))

    async def _change(self, job: Job, outcome: str, change: Callable[[], Awaitable[object]]) -> None:
        try:
            await _insist(change)
        except LostLease:
            self._lost(job)
        else:
            metrics.jobs.labels(job.type, outcome).inc()
            self._jobs_ended += 1
            log.info("job-ended", outcome=outcome)
            self._ended(job)

    def _lost(self, job: Job) -> None:
        log.warning("lease-lost")
        metrics.lost_leases.labels(job.type).inc()
        self._ended(job)

    async def _complete_in_batches(self) -> None:
        """Write results: all that have gathered while the last batch was being written go in one call."""
        while True:
            batch = [await self._finished.get()]
            while not self._finished.empty() and len(batch) < 500:
                batch.append(self._finished.get_nowait())
            await self._complete(batch)

    async def _complete(self, batch: list[tuple[Job, Done]]) -> None:
        results = [(job.held, done.facts) for job, done in batch]
        written = await _insist(lambda: self._store.complete(self.name, *results))
        for (job, done), accepted in zip(batch, written, strict=True):
            if accepted:
                metrics.jobs.labels(job.type, "done").inc()
                self._jobs_ended += 1
                log.info("job-done", job=job.id, seconds=done.facts.get("total_time"))
                self._ended(job)
            else:
                self._lost(job)

    async def _keep_leases(self) -> None:
        while True:
            try:
                facts = {**self.facts, "ended": str(self._jobs_ended)}
                await self._store.heartbeat(self.name, 3 * self._capacity.renew, facts)
                await self._renew()
            except Retry as error:
                log.warning("renewal-failed", error=str(error))
            await _wait(self._renew_now, self._capacity.renew)
            self._renew_now.clear()

    async def _renew(self) -> None:
        held = [token for token, _task in self._running.values()]
        if not held:
            return
        lost = await self._store.renew(self.name, self._capacity.lease, held)
        metrics.renewals.inc(len(held))
        for job_id in lost:
            token, task = self._running.get(job_id, (None, None))
            if token in held and task is not None and not task.done():
                log.warning("lease-lost", job=job_id)
                metrics.lost_leases.labels(job_id.partition(":")[0]).inc()
                task.cancel()

    async def _stop(self, grace: float) -> None:
        log.info("worker-stopping", running=len(self._running), grace=grace)
        deadline = asyncio.get_running_loop().time() + grace
        while self._running and (left := deadline - asyncio.get_running_loop().time()) > 0:
            self._parked = False
            self._claimable.clear()
            await _wait(self._claimable, left)
        unfinished = [(held, task) for held, task in self._running.values()]
        await _cancelled(*(task for _held, task in unfinished))
        try:
            released = await self._store.release(self.name, [held for held, _task in unfinished])
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


def _told(error: Exception) -> tuple[str, float | None]:
    """Return the sentence that a user may see, and seconds until the next try if the error knows."""
    if isinstance(error, Retry):
        return str(error), error.after
    return f"An unexpected fault in the program ({type(error).__name__}; trace {trace_id()}).", None


async def _first_end(tasks: list[asyncio.Task[None]], stopping: asyncio.Event) -> None:
    """Wait for the wish to stop; a task that ends before that raises here."""
    wish = asyncio.create_task(stopping.wait(), name="stopping")
    try:
        done, _pending = await asyncio.wait([*tasks, wish], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {wish}:
            task.result()
    finally:
        await _cancelled(wish)


async def _cancelled(*tasks: asyncio.Task[None] | asyncio.Task[bool]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
