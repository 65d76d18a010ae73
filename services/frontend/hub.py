"""The event hub: tells everybody who watches a job of its changes, on exact keys, reading each change once.

A keyspace notification marks a job as changed; one loop reads the marked jobs, many in one round trip, and hands each
change to those who watch it. Beside that everything watched is looked at once in each reconcile period, a few jobs at
a time: a lost notification, or a server without any, only makes it later.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import structlog

from services.frontend import metrics
from services.frontend.coalesce import Coalescer
from services.frontend.estimates import Estimates
from services.frontend.wheel import Wheel
from shared.costs import USE
from shared.errors import KioskError
from shared.jobs import JobStore, Notifications
from shared.jobs.keys import JOB
from shared.jobs.model import percent, type_of
from shared.jobs.states import DONE, FINAL, NEW, WORKING

log = structlog.get_logger(__name__)

#: The fields that a change is told with.
FIELDS = (
    *("status", "progress", "updated_at", "owner", "finished_at", "reason", "output_url", "failures"),
    *("original_name", "total_time", "preview_file_name", "view_file_name"),
    *USE,
)
#: Of these one moves with every change of a job.
_MOVING = ("status", "progress", "updated_at")
#: What is worked out for jobs that wait.
_ESTIMATES: tuple[str, ...] = ("position", "eta")
#: s without an event after which a stream is woken, so that it shows that it lives.
KEEP_ALIVE = 15.0
#: Jobs read at once: some ms of work, in which no stream is written to.
_CHUNK = 100
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
        self.wake()

    def wake(self) -> None:
        """End the wait, if there is nothing to tell too."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def changes(self) -> dict[str, Snapshot | None]:
        """Wait for changes, at most `KEEP_ALIVE`; return the latest of each job that changed."""
        if not self._changed:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        changed, self._changed = self._changed, {}
        return changed


class _Watched:
    """A job that somebody watches."""

    __slots__ = ("_hub", "job_id", "known", "read", "slot", "subscriptions")

    def __init__(self, job_id: str, hub: Hub) -> None:
        self.job_id = job_id
        self.known: Snapshot | None = None
        self.read = False
        self.subscriptions: list[Subscription] = []
        self.slot: set[_Watched] = set()
        self._hub = hub

    def set(self) -> None:
        """Something may have changed."""
        self._hub.mark(self)


class Hub:
    """All watched jobs of one frontend."""

    def __init__(self, store: JobStore, notifications: Notifications | None, reconcile: float) -> None:
        """Watch by notifications, if given, and at the reconcile period (s)."""
        self._store = store
        self._notifications = notifications
        self._watched: dict[str, _Watched] = {}
        self._marked: dict[_Watched, None] = {}
        self._wake = asyncio.Event()
        self._rounds: Wheel[_Watched] = Wheel(reconcile)
        self._beats: Wheel[Subscription] = Wheel(KEEP_ALIVE)
        self._estimates = Estimates(store)
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
        beats = self._beats.add(subscription)
        try:
            for job_id in subscription.ids:
                await self._join(job_id, subscription)
            for job_id in subscription.ids:
                if (watched := self._watched[job_id]).read:
                    subscription.tell(job_id, watched.known)
            yield subscription
        finally:
            metrics.streams.dec()
            beats.discard(subscription)
            for job_id in subscription.ids:
                await self._leave(job_id, subscription)

    def close(self) -> None:
        """Let all streams end now: browsers come back by themselves, and find another frontend or this one again."""
        self.closing = True
        for watched in self._watched.values():
            for subscription in watched.subscriptions:
                subscription.wake()

    def mark(self, watched: _Watched) -> None:
        """Have a job read again."""
        self._marked[watched] = None
        self._wake.set()

    async def run(self) -> None:
        """Pass changes on until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            await self._something_to_do(clock())
            changed = list(self._marked)[:_CHUNK]
            for watched in changed:
                del self._marked[watched]
            try:
                await self._read(changed)
                await self._reconcile(self._rounds.due(clock()))
            except KioskError as error:
                log.warning("events-delayed", error=str(error))
                self._marked.update(dict.fromkeys(changed))
                await asyncio.sleep(_PAUSE_AFTER_TROUBLE)

    async def beat(self) -> None:
        """Let all streams show that they live until cancelled: a task of its own, which never waits for Redis."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._beats.wait(clock()))
            for subscription in self._beats.due(clock()):
                subscription.wake()

    async def _something_to_do(self, now: float) -> None:
        """Wait until a job is marked or a slot of the wheel is due; while nobody watches, for somebody who does."""
        wait = self._rounds.wait(now) if self._watched else None
        if not self._marked and wait != 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()
        self._wake.clear()

    async def _join(self, job_id: str, subscription: Subscription) -> None:
        watched = self._watched.get(job_id)
        if watched is None:
            watched = self._watched[job_id] = _Watched(job_id, self)
            watched.slot = self._rounds.add(watched)
            metrics.watched.set(len(self._watched))
        watched.subscriptions.append(subscription)
        if len(watched.subscriptions) == 1 and self._notifications is not None:
            await self._notifications.add(watched, JOB + job_id)
        # Read by the loop, after the subscription is in force: nothing falls between the two.
        watched.set()

    async def _leave(self, job_id: str, subscription: Subscription) -> None:
        watched = self._watched.get(job_id)
        if watched is None or subscription not in watched.subscriptions:
            return
        watched.subscriptions.remove(subscription)
        if not watched.subscriptions:
            del self._watched[job_id]
            watched.slot.discard(watched)
            self._marked.pop(watched, None)
            metrics.watched.set(len(self._watched))
            if self._notifications is not None:
                await self._notifications.remove(watched, JOB + job_id)

    async def _read(self, changed: list[_Watched]) -> None:
        if not changed:
            return
        answers = await self._store.fields_of_many([(watched.job_id, FIELDS) for watched in changed])
        for watched, values in zip(changed, answers, strict=True):
            found = {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None}
            self._publish(watched, found if "status" in found else None)

    async def _reconcile(self, due: list[_Watched]) -> None:
        """Look whether jobs changed unnoticed, and tell those that wait how long it may be."""
        if not due:
            return
        answers = await self._store.fields_of_many([(watched.job_id, _MOVING) for watched in due])
        for watched, values in zip(due, answers, strict=True):
            known = watched.known or {}
            if values != [known.get(name) for name in _MOVING]:
                watched.set()
        seen = [(each, each.known) for each in due if each.known is not None]
        await self._estimate([each for each, fields in seen if fields["status"] == NEW])
        working = {
            (type_of(each.job_id), fields.get("owner", "")) for each, fields in seen if fields["status"] in WORKING
        }
        await self._estimates.look_back(working)

    def _publish(self, watched: _Watched, snapshot: Snapshot | None) -> None:
        before = watched.known
        if snapshot is not None and before is not None and snapshot["status"] == NEW:
            snapshot |= {name: before[name] for name in _ESTIMATES if name in before}
        elif snapshot is not None and snapshot["status"] in WORKING:
            left = self._estimates.left(type_of(watched.job_id), percent(snapshot))
            snapshot |= {} if left is None else {"eta": f"{left:.0f}"}
        if watched.read and snapshot == before:
            return
        watched.read = True
        self._learn(watched.job_id, snapshot, before)
        self._tell(watched, snapshot)

    def _tell(self, watched: _Watched, snapshot: Snapshot | None) -> None:
        watched.known = snapshot
        for subscription in watched.subscriptions:
            subscription.tell(watched.job_id, snapshot)

    def _learn(self, job_id: str, snapshot: Snapshot | None, before: Snapshot | None) -> None:
        """Remember how long jobs of a type take, from those seen to end."""
        if snapshot is not None and before is not None and snapshot["status"] == DONE:
            self._estimates.learn(type_of(job_id), snapshot.get("total_time"))

    async def _estimate(self, waiting: list[_Watched]) -> None:
        """Tell those who wait how many of their jobs go first, and when theirs may be done."""
        if not waiting:
            return
        asked = [(each.job_id, (each.known or {}).get("owner", "")) for each in waiting]
        for watched, estimate in zip(waiting, await self._estimates.of_waiting(asked), strict=True):
            if estimate is None or watched.known is None:
                continue
            told = {**watched.known, "position": str(estimate.position)}
            if estimate.seconds is not None:
                told["eta"] = f"{estimate.seconds:.0f}"
            if told != watched.known:
                self._tell(watched, told)


def is_final(snapshot: Snapshot | None) -> bool:
    """Tell whether nothing more will come of a job."""
    return snapshot is None or snapshot["status"] in FINAL
