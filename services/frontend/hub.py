"""The event hub: tells everybody who watches a job of its changes, on exact keys, reading each change once.

A keyspace notification marks a job as changed; one loop reads all marked jobs in one round trip and hands each change
to those who watch it. While nothing comes, everything watched is read again each reconcile period: a lost notification,
or a server without any, only makes it later.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

import structlog

from services.frontend import metrics
from services.frontend.coalesce import Coalescer
from shared.errors import KioskError
from shared.jobs import JobStore, Notifications, Watch
from shared.jobs.keys import JOB
from shared.jobs.model import type_of
from shared.jobs.states import DONE, FINAL, NEW

log = structlog.get_logger(__name__)

#: The fields that a change is told with.
FIELDS = (
    *("status", "progress", "attempt", "losses", "updated_at", "owner", "created_ms", "finished_at", "reason"),
    *("output_url", "failures", "total_jobs", "original_name", "total_time", "preview_file_name", "batch"),
)
#: What is worked out for jobs that wait.
_ESTIMATES: tuple[str, ...] = ("position", "eta")
_CHUNK = 500
_PAUSE_AFTER_TROUBLE = 1.0

Snapshot = dict[str, str]


class Subscription:
    """What one stream has not been told yet: the latest of each job that changed."""

    __slots__ = ("_changed", "_waiter", "ids")

    def __init__(self, ids: tuple[str, ...]) -> None:
        """Start with nothing to tell."""
        self.ids = ids
        self._changed: dict[str, Snapshot | None] = {}
        self._waiter: asyncio.Future[None] | None = None

    def tell(self, job_id: str, snapshot: Snapshot | None) -> None:
        """Note a change; None: the job is gone."""
        self._changed[job_id] = snapshot
        if self._waiter is not None:
            _wake(self._waiter)

    def wake(self) -> None:
        """End the wait, with nothing to tell."""
        if self._waiter is not None:
            _wake(self._waiter)

    async def changes(self, period: float) -> dict[str, Snapshot | None]:
        """Wait for changes, at most so many seconds; return the latest of each job that changed."""
        if not self._changed:
            loop = asyncio.get_running_loop()
            waiter = self._waiter = loop.create_future()
            timer = loop.call_later(period, _wake, waiter)
            try:
                await waiter
            finally:
                timer.cancel()
                self._waiter = None
        changed, self._changed = self._changed, {}
        return changed


class _Watched(Watch):
    """A job that somebody watches."""

    def __init__(self, job_id: str, dirty: set[str], hub_wake: asyncio.Event) -> None:
        self.job_id = job_id
        self.known: Snapshot | None = None
        self.read = False
        self.subscriptions: set[Subscription] = set()
        self.stack = contextlib.AsyncExitStack()
        self._dirty = dirty
        self._hub_wake = hub_wake

    def set(self) -> None:
        self._dirty.add(self.job_id)
        self._hub_wake.set()


class Hub:
    """All watched jobs of one frontend."""

    def __init__(self, store: JobStore, notifications: Notifications | None, reconcile: float) -> None:
        """Watch by notifications, if given, and at the reconcile period (s)."""
        self._store = store
        self._notifications = notifications
        self._reconcile = reconcile
        self._watched: dict[str, _Watched] = {}
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()
        self._seconds: dict[str, float] = {}
        self._running: dict[str, int] = {}
        self.closing = False
        self.fields = Coalescer(store.fields_of_many)
        """Reads fields of a job: called with (id, names)."""
        self.job = Coalescer(store.get_many)
        """Reads a job: called with its id; what is no id is no job."""

    @contextlib.asynccontextmanager
    async def subscribe(self, ids: Sequence[str]) -> AsyncIterator[Subscription]:
        """Watch jobs while the context lasts; the present state of each is told first."""
        subscription = Subscription(tuple(dict.fromkeys(ids)))
        metrics.streams.inc()
        try:
            for job_id in subscription.ids:
                await self._join(job_id, subscription)
            for job_id in subscription.ids:
                if (watched := self._watched[job_id]).read:
                    subscription.tell(job_id, watched.known)
            yield subscription
        finally:
            metrics.streams.dec()
            for job_id in subscription.ids:
                await self._leave(job_id, subscription)

    def close(self) -> None:
        """Let all streams end now: browsers come back by themselves, and find another frontend or this one again."""
        self.closing = True
        for watched in self._watched.values():
            for subscription in watched.subscriptions:
                subscription.wake()

    async def run(self) -> None:
        """Pass changes on until cancelled."""
        next_full = time.monotonic() + self._reconcile
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, next_full - time.monotonic())):
                    await self._wake.wait()
            self._wake.clear()
            full = time.monotonic() >= next_full
            changed = list(self._watched) if full else list(self._dirty)
            self._dirty.clear()
            try:
                await self._read(changed)
                if full:
                    await self._estimate()
            except KioskError as error:
                log.warning("events-delayed", error=str(error))
                self._dirty.update(changed)
                await asyncio.sleep(_PAUSE_AFTER_TROUBLE)
            if full:
                next_full = time.monotonic() + self._reconcile

    async def _join(self, job_id: str, subscription: Subscription) -> None:
        watched = self._watched.get(job_id)
        if watched is None:
            watched = self._watched[job_id] = _Watched(job_id, self._dirty, self._wake)
            metrics.watched.set(len(self._watched))
        watched.subscriptions.add(subscription)
        if len(watched.subscriptions) == 1 and self._notifications is not None:
            await watched.stack.enter_async_context(self._notifications.watch(JOB + job_id, using=watched))
        # Read by the loop, after the subscription is in force: nothing falls between the two.
        watched.set()

    async def _leave(self, job_id: str, subscription: Subscription) -> None:
        watched = self._watched.get(job_id)
        if watched is None:
            return
        watched.subscriptions.discard(subscription)
        if not watched.subscriptions:
            del self._watched[job_id]
            self._dirty.discard(job_id)
            metrics.watched.set(len(self._watched))
            await watched.stack.aclose()

    async def _read(self, ids: list[str]) -> None:
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            answers = await self._store.fields_of_many([(job_id, FIELDS) for job_id in chunk])
            for job_id, values in zip(chunk, answers, strict=True):
                found = {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None}
                self._publish(job_id, found if "status" in found else None)

    def _publish(self, job_id: str, snapshot: Snapshot | None) -> None:
        watched = self._watched.get(job_id)
        if watched is None:
            return
        before = watched.known
        if snapshot is not None and before is not None and snapshot["status"] == NEW:
            snapshot |= {name: before[name] for name in _ESTIMATES if name in before}
        if watched.read and snapshot == before:
            return
        watched.read, watched.known = True, snapshot
        self._learn(job_id, snapshot, before)
        for subscription in watched.subscriptions:
            subscription.tell(job_id, snapshot)

    def _learn(self, job_id: str, snapshot: Snapshot | None, before: Snapshot | None) -> None:
        """Remember how long jobs of a type take, from those seen to end."""
        if snapshot is None or before is None or snapshot["status"] != DONE or "total_time" not in snapshot:
            return
        with contextlib.suppress(ValueError):
            took = float(snapshot["total_time"])
            kind = type_of(job_id)
            self._seconds[kind] = 0.8 * self._seconds.get(kind, took) + 0.2 * took

    async def _estimate(self) -> None:
        """Tell those who wait how many of their jobs go first, and when it may be their turn."""
        waiting = [w for w in self._watched.values() if w.known is not None and w.known["status"] == NEW]
        if not waiting:
            return
        kinds = {type_of(w.job_id) for w in waiting}
        queues = await self._store.queues(sorted(kinds))
        ranks = await self._store.ranks([(w.job_id, (w.known or {}).get("owner", "")) for w in waiting])
        for watched, rank in zip(waiting, ranks, strict=True):
            if rank is None or watched.known is None:
                continue
            kind = type_of(watched.job_id)
            told = {**watched.known, "position": str(rank + 1)}
            if seconds := self._seconds.get(kind):
                told["eta"] = f"{seconds * (1 + rank / max(1, queues[kind].running)):.0f}"
            if told != watched.known:
                watched.known = told
                for subscription in watched.subscriptions:
                    subscription.tell(watched.job_id, told)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def is_final(snapshot: Snapshot | None) -> bool:
    """Tell whether nothing more will come of a job."""
    return snapshot is None or snapshot["status"] in FINAL
