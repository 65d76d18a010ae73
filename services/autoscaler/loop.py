"""The loop: looks, decides, acts, explains.

A keyspace event on the hint makes it look at once; it then rests for a moment (longer where looking has cost more than
its share of a core), looks once more for what a burst brought meanwhile, and sleeps until the next event, the next
moment at which a decision may differ, or the end of the reconcile period.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from services.autoscaler import metrics
from services.autoscaler.decide import Decision, Fleet, Hands, Load, Memory, Observation, decide, resumed
from services.autoscaler.explain import Explainer
from services.autoscaler.measure import ServiceMeter
from services.autoscaler.scalers import Scaler
from services.autoscaler.settings import PaceSettings
from services.autoscaler.targets import Target
from shared.errors import Retry
from shared.jobs import JobStore, Notifications, QueueState, WorkerState
from shared.jobs.keys import HINT_AUTOSCALER

log = structlog.get_logger(__name__)

#: s between two looks at what all workers hold, where no decision asks for it.
_HANDS_PERIOD = 15.0
#: s in which the same trouble is logged once.
_QUIET = 60.0


class Loop:
    """Keeps the targets at their size."""

    def __init__(
        self,
        store: JobStore,
        notifications: Notifications,
        scaler: Scaler,
        targets: Sequence[Target],
        *,
        pace: PaceSettings,
        reconcile: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare; nothing is read before `run`."""
        self._store = store
        self._notifications = notifications
        self._scaler = scaler
        self._targets = {target.name: target for target in targets}
        self._pace = pace
        self._reconcile = reconcile
        self._clock = clock
        self._memories = {name: Memory() for name in self._targets}
        self._resumed = False
        self._troubles: dict[tuple[str, str], float] = {}
        self._types: tuple[float, tuple[str, ...]] = (-float("inf"), ())
        self._hands_read = -float("inf")
        self._explainer = Explainer(store, scaler)
        self._purse = _Purse(pace)
        self._meters = {name: ServiceMeter() for name in self._targets}

    async def run(self) -> None:
        """Look and act until cancelled."""
        async with self._notifications.watch(HINT_AUTOSCALER) as watch:
            watching = asyncio.create_task(self._scaler.run(watch.set), name="scaler")
            try:
                woken = True
                while True:
                    began = time.thread_time()
                    period = await self.look()
                    await asyncio.sleep(self._purse.rest(time.thread_time() - began))
                    # An event opens a burst whose later events the hint hides: after one, look once more.
                    woken = await watch.wait(0 if woken else period)
                    if watching.done():
                        watching.result()
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    async def look(self) -> float:
        """Look at all targets once and do what is decided; return s until the next look is due."""
        began = time.monotonic()
        if not await self._acts():
            return self._reconcile
        loads, unreadable = await self._loads()
        observations = await asyncio.gather(
            *(self._observe(target, loads, unreadable) for target in self._targets.values())
        )
        seen = dict(zip(self._targets, observations, strict=True))
        decisions = {name: decide(t, seen[name], self._memories[name]) for name, t in self._targets.items()}
        if self._asks_for_hands(decisions):
            seen, decisions = await self._decide_with_hands(seen, decisions)
        await asyncio.gather(
            *(self._settle(self._targets[name], seen[name], decision, began) for name, decision in decisions.items())
        )
        await self._explainer.publish()
        metrics.look_seconds.observe(time.monotonic() - began)
        due = [decision.again_in for decision in decisions.values() if decision.again_in is not None]
        return min([self._reconcile, *due])

    async def _acts(self) -> bool:
        """Tell whether this process decides; where nobody can, each target is held, and people are told why."""
        nobody = ""
        try:
            acts = await self._scaler.acting()
        except Retry as error:
            self._failed("leader", error)
            acts, nobody = False, str(error)
        metrics.leader.set(acts)
        if not (acts or nobody):  # another one does
            self._explainer.forget()
            self._resumed = False
            return False
        self._resumed = self._resumed or await self._resume()
        if nobody:
            for target in self._targets.values():
                seen = Observation(self._clock(), None, None, unreadable=nobody.rstrip("."))
                await self._settle(target, seen, decide(target, seen, self._memories[target.name]), 0.0)
            await self._explainer.publish()
        return acts

    async def _resume(self) -> bool:
        """Go on with the day's account of whoever decided before: a restart must not open a new budget."""
        try:
            told = await self._store.decisions()
        except Retry as error:
            self._failed("decisions", error)
            return False
        for name in told.keys() & self._memories.keys():
            said = json.loads(told[name])
            last = self._memories[name]
            self._memories[name] = resumed(last, said["at"], said["spent_hours"], said["actual"])
        return True

    # -- seeing

    async def _loads(self) -> tuple[Mapping[str, QueueState] | None, str]:
        try:
            return await self._store.queues(await self._all_types()), ""
        except Retry as error:
            self._failed("queues", error)
            return None, str(error)

    async def _all_types(self) -> tuple[str, ...]:
        """Return the types of all targets; those announced are read once in a reconcile period."""
        named = {kind for target in self._targets.values() for kind in target.queues}
        if all(target.queues for target in self._targets.values()):
            return tuple(sorted(named))
        if self._clock() - self._types[0] >= self._reconcile or not self._types[1]:
            self._types = (self._clock(), tuple(await self._store.types()))
        return tuple(sorted(named.union(self._types[1])))

    async def _observe(self, target: Target, queues: Mapping[str, QueueState] | None, unreadable: str) -> Observation:
        fleet: Fleet | None = None
        try:
            fleet = await self._scaler.observe(target)
        except Retry as error:
            self._failed("scaler", error)
            unreadable = unreadable or str(error)
        load = None if queues is None else load_of(target, queues, self._types[1])
        measured = self._meters[target.name].seconds
        return Observation(self._clock(), load, fleet, None, unreadable, measured)

    def _asks_for_hands(self, decisions: Mapping[str, Decision]) -> bool:
        due = self._clock() - self._hands_read >= _HANDS_PERIOD
        return due or any(decision.needs_hands for decision in decisions.values())

    async def _decide_with_hands(
        self, seen: Mapping[str, Observation], decisions: Mapping[str, Decision]
    ) -> tuple[dict[str, Observation], dict[str, Decision]]:
        try:
            workers = await self._store.workers()
        except Retry as error:
            self._failed("workers", error)
            return dict(seen), dict(decisions)
        self._hands_read = self._clock()
        whole, again = dict(seen), dict(decisions)
        for name, target in self._targets.items():
            fleet = seen[name].fleet
            if fleet is None:
                continue
            self._meters[name].look(self._clock(), [w for w in workers if w.id in {m.name for m in fleet.members}])
            try:
                busy = await self._scaler.busy(target, fleet) if decisions[name].needs_hands else frozenset()
            except Retry as error:
                self._failed("busy", error)
                continue
            whole[name] = dataclasses.replace(seen[name], hands=hands_of(workers, busy))
            again[name] = decide(target, whole[name], self._memories[name])
        return whole, again

    # -- acting

    async def _settle(self, target: Target, seen: Observation, decision: Decision, began: float) -> None:
        """Carry out a decision, remember it, and tell of it."""
        if decision.needs_hands:  # they could not be read: nothing is known, so nobody goes
            decision = dataclasses.replace(decision, code="hold", reason="Held: what the workers hold cannot be read.")
        before = self._memories[target.name]
        self._memories[target.name] = decision.memory
        if decision.changes:
            try:
                decision = await self._carry_out(target, decision)
            except Retry as error:
                self._failed("scale", error)
                self._memories[target.name] = dataclasses.replace(
                    decision.memory, steps=before.steps, last_up=before.last_up
                )
                decision = dataclasses.replace(
                    decision, code="hold", reason=f"{decision.reason} This could not be done: {error}", again_in=1.0
                )
            else:
                self._count(target, decision, began)
        self._explainer.tell(target, seen, decision)

    async def _carry_out(self, target: Target, decision: Decision) -> Decision:
        """Mark, confirm, remove; or add. Workers that turned out to hold something stay and work on."""
        assert decision.replicas is not None
        if decision.unretire:
            await self._store.unretire(*decision.unretire)
            await self._scaler.keep(target, decision.unretire)
        going = await self._retire(target, decision.retire)
        replicas = decision.replicas + len(decision.retire) - len(going)
        if replicas == decision.actual:
            return dataclasses.replace(decision, replicas=replicas)
        try:
            await self._scaler.scale(target, replicas, going)
        except BaseException:
            await asyncio.shield(self._give_back(going))
            raise
        return dataclasses.replace(decision, replicas=replicas)

    async def _retire(self, target: Target, names: Sequence[str]) -> list[str]:
        """Mark workers; return those that are certain to hold nothing from now on, in order."""
        marked = await self._store.retire(*names)
        going = [name for name in names if name in marked]
        if target.kind == "StatefulSet":  # only an unbroken row from the highest ordinal down can go
            going = going[: next((i for i, name in enumerate(names) if name not in marked), len(names))]
        await self._store.unretire(*(marked - set(going)))
        return going

    async def _give_back(self, names: Sequence[str]) -> None:
        try:
            await self._store.unretire(*names)
        except Retry as error:  # the next look sees them marked and staying, and gives them back
            self._failed("unretire", error)

    def _count(self, target: Target, decision: Decision, began: float) -> None:
        assert decision.replicas is not None
        change = decision.replicas - (decision.actual or 0)
        if change:
            metrics.changes.labels(target.name, "up" if change > 0 else "down").inc(abs(change))
        if change > 0:
            metrics.reaction_seconds.labels(target.name).observe(time.monotonic() - began)

    def _failed(self, part: str, error: Retry) -> None:
        """Count a failure, and log it once a minute: the same may come with each of many jobs."""
        metrics.errors.labels(part).inc()
        trouble, now = (part, str(error)), time.monotonic()
        self._troubles = {known: at for known, at in self._troubles.items() if now - at < _QUIET}
        if trouble not in self._troubles:
            self._troubles[trouble] = now
            log.warning("autoscaler-trouble", part=part, error=str(error))


class _Purse:
    """CPU time that may be spent: it fills at the allowed share of a core, and holds enough for a burst."""

    _MOST = 0.1  # s

    def __init__(self, pace: PaceSettings) -> None:
        self._pace = pace
        self._left, self._at = self._MOST, time.monotonic()

    def rest(self, cost: float) -> float:
        """Take the cost of a look (s of CPU); return s to rest: longer while more was spent than came in."""
        now = time.monotonic()
        self._left = min(self._MOST, self._left + (now - self._at) * self._pace.busy_share) - cost
        self._at = now
        return max(self._pace.rest, -self._left / self._pace.busy_share)


def load_of(target: Target, queues: Mapping[str, QueueState], announced: Sequence[str]) -> Load:
    """Add up a target's queues by their weights; a job that waits to be tried again is work too."""
    weights = target.queues or dict.fromkeys(announced, 1.0)
    mine = [(queues[kind], weight) for kind, weight in weights.items() if kind in queues]
    return Load(
        sum(weight * (queue.waiting + queue.delayed) for queue, weight in mine),
        sum(weight * queue.running for queue, weight in mine),
        max((queue.oldest_age for queue, _weight in mine), default=0.0),
    )


def hands_of(workers: Sequence[WorkerState], busy: frozenset[str]) -> Hands:
    """Return which workers hold work and which are marked."""
    return Hands(
        busy | {worker.id for worker in workers if worker.held},
        frozenset(worker.id for worker in workers if worker.retiring),
    )
