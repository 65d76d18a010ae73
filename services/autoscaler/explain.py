"""Says why: each decision as a log line, as metrics, in Redis for `kiosk status`, and where the scaler tells it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import structlog

from services.autoscaler import metrics
from services.autoscaler.decide import Decision, Forecast, Observation, budget_hours, forecast
from services.autoscaler.scalers import Scaler
from services.autoscaler.targets import Target
from shared.errors import Retry
from shared.jobs import JobStore

log = structlog.get_logger(__name__)

#: s between two writings of the same kind of decision to Redis: the counts in it change with every job.
_PERIOD = 1.0
#: s in which a decision that changes nothing is logged once of each kind.
_QUIET = 60.0


class Explainer:
    """Tells each decision once, and the figures behind it as often as is useful."""

    def __init__(self, store: JobStore, scaler: Scaler) -> None:
        """Prepare."""
        self._store = store
        self._scaler = scaler
        self._told: dict[str, tuple[str, int | None]] = {}
        self._written: dict[str, float] = {}
        self._unwritten: dict[str, str] = {}
        self._new: list[tuple[Target, Decision]] = []
        self._said: dict[tuple[str, str], float] = {}
        self._labels: dict[str, _Gauges] = {}

    def tell(self, target: Target, seen: Observation, decision: Decision) -> None:
        """Tell of a decision; one that repeats the last changes only the figures."""
        gauges = self._labels.setdefault(target.name, _Gauges(target))
        gauges.set(seen, decision)
        kind = (decision.code, decision.replicas)
        is_new = kind != self._told.get(target.name)
        if is_new or time.monotonic() - self._written.get(target.name, -_PERIOD) >= _PERIOD:
            self._written[target.name] = time.monotonic()
            self._unwritten[target.name] = json.dumps(described(target, seen, decision))
        if not is_new:
            return
        self._told[target.name] = kind
        metrics.decisions.labels(target.name, decision.code).inc()
        self._say(target, decision)(
            "scaling-decided",
            target=target.name,
            code=decision.code,
            reason=decision.reason,
            replicas=decision.replicas,
            actual=decision.actual,
            wanted=decision.wanted,
            going=list(decision.retire) or None,
        )
        self._new.append((target, decision))

    def _say(self, target: Target, decision: Decision) -> Any:
        """Return the level to log at: where nothing is changed, the same again within a minute is a detail."""
        now = time.monotonic()
        said = self._said.get((target.name, decision.code), -_QUIET)
        if not decision.changes and now - said < _QUIET:
            return log.debug
        self._said[target.name, decision.code] = now
        return log.warning if decision.code in ("hold", "unservable", "over-budget") else log.info

    async def publish(self) -> None:
        """Write what is new to Redis, and only then where the scaler tells it, which may take long."""
        try:
            await self._store.tell_decisions(self._unwritten)
        except Retry:  # said already where the queues could not be read
            pass
        else:
            self._unwritten.clear()
        new, self._new = self._new, []
        await asyncio.gather(*(self._scaler.explain(target, decision) for target, decision in new))

    def forget(self) -> None:
        """Take back all figures: another one acts now, and what was last seen here must not stand beside its own."""
        for gauges in self._labels.values():
            gauges.remove()
        self._labels.clear()
        self._told.clear()
        self._unwritten.clear()
        self._new.clear()


def described(target: Target, seen: Observation, decision: Decision) -> dict[str, Any]:
    """Return a decision as `kiosk status` shows it: plain values, times in s."""
    load, fleet, ahead = seen.load, seen.fleet, foreseen(target, seen)
    return {
        "at": seen.at,
        "target": target.name,
        "kind": target.kind,
        "code": decision.code,
        "reason": decision.reason,
        "wanted": decision.wanted,
        "actual": decision.actual,
        "replicas": decision.replicas,
        "ready": sum(member.ready for member in fleet.staying) if fleet else None,
        "waiting": load.waiting if load else None,
        "running": load.running if load else None,
        "oldest_age": load.oldest_age if load else None,
        "problems": sorted({member.problem for member in fleet.members if member.problem}) if fleet else [],
        "empty_in": ahead.seconds if ahead else None,
        "cost": ahead.cost if ahead else None,
        "spent_hours": decision.memory.spent,
        "budget_hours": budget_hours(target) if target.budget else None,
    }


def foreseen(target: Target, seen: Observation) -> Forecast | None:
    """Return when the queue will be empty and at what cost; None where that cannot be known."""
    if seen.load is None or seen.fleet is None:
        return None
    return forecast(target, seen.load, seen.fleet, seen.service_seconds)


class _Gauges:
    """A target's metrics, looked up once."""

    def __init__(self, target: Target) -> None:
        name = target.name
        self._target = target
        self._waiting = metrics.waiting.labels(name)
        self._running = metrics.running.labels(name)
        self._oldest = metrics.oldest_seconds.labels(name)
        self._wanted = metrics.wanted.labels(name)
        self._actual = metrics.actual.labels(name)
        self._ready = metrics.ready.labels(name)
        self._held = metrics.held.labels(name)
        self._spent = metrics.spent_hours.labels(name)
        self._over = metrics.over_budget.labels(name)
        self._cost = metrics.cost_per_hour.labels(name)
        self._empty = metrics.empty_in_seconds.labels(name)
        self._left = metrics.budget_left.labels(name) if target.budget else None
        self._code = ""

    def remove(self) -> None:
        for gauge in metrics.OF_TARGETS:
            gauge.remove(self._target.name)
        metrics.state.remove(self._target.name, self._code)

    def set(self, seen: Observation, decision: Decision) -> None:
        self._held.set(decision.code == "hold")
        self._over.set(decision.code == "over-budget")
        if decision.code != self._code:
            if self._code:
                metrics.state.labels(self._target.name, self._code).set(0)
            metrics.state.labels(self._target.name, decision.code).set(1)
            self._code = decision.code
        if seen.load is not None:
            self._waiting.set(seen.load.waiting)
            self._running.set(seen.load.running)
            self._oldest.set(seen.load.oldest_age)
        if seen.fleet is not None:
            self._ready.set(sum(member.ready for member in seen.fleet.staying))
        if decision.replicas is not None:
            self._actual.set(decision.replicas)
            self._cost.set(decision.replicas * self._target.price_per_hour)
        if decision.wanted is not None:
            self._wanted.set(decision.wanted)
        if ahead := foreseen(self._target, seen):
            self._empty.set(-1 if ahead.seconds is None else ahead.seconds)
        self._spent.set(decision.memory.spent)
        if self._left is not None:
            self._left.set(1 - decision.memory.spent / budget_hours(self._target))
