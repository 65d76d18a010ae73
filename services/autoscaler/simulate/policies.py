"""The policies that are compared: ours is the real decision code; the others are modelled on their documentation."""

from __future__ import annotations

import math
from collections import deque

from services.autoscaler.decide import Fleet, Hands, Load, Member, Memory, Observation, decide
from services.autoscaler.simulate.engine import Change, Simulation
from services.autoscaler.targets import Target


class Ours:
    """The real `decide`, driven by events as the service is: at once, then no sooner than ``rest`` s later."""

    def __init__(self, target: Target, *, rest: float = 0.05, start: float = 1_700_000_000.0) -> None:
        """Decide for a target; the simulation begins at ``start`` (s since 1970), for schedules and budgets."""
        self.name = "CellKiosk"
        self.reacts_in: float | None = rest
        self._target = target
        self._start = start
        self._memory = Memory()
        self._fleet = Fleet(0)
        self._version = -1

    def look(self, now: float, world: Simulation) -> tuple[Change | None, float]:
        """Decide as the service does."""
        if world.version != self._version or world.asked != self._fleet.replicas:
            members = tuple(
                Member(replica.name, replica.stopping, replica.ready, created=replica.wanted)
                for replica in world.replicas.values()
            )
            self._fleet, self._version = Fleet(world.asked, members), world.version
        at = self._start + now
        seen = Observation(at, Load(world.waiting, world.running, world.oldest_age(now)), self._fleet)
        decision = decide(self._target, seen, self._memory)
        if decision.needs_hands:
            busy = frozenset(replica.name for replica in world.replicas.values() if replica.jobs)
            seen = Observation(at, seen.load, self._fleet, Hands(busy))
            decision = decide(self._target, seen, self._memory)
        self._memory = decision.memory
        assert decision.replicas is not None
        again = now + decision.again_in if decision.again_in is not None else math.inf
        if decision.replicas == world.asked:
            return None, again
        return Change(decision.replicas, decision.retire), again


class _Hpa:
    """The HorizontalPodAutoscaler with an external metric of type AverageValue and its default behaviour.

    Every 15 s: desired = ceil(metric / target); no change within a tolerance of 10 %; up by at most the larger of
    100 % and 4 replicas in 15 s; down to the highest desired number of the last 300 s.
    """

    SYNC, TOLERANCE, STABILISATION = 15.0, 0.1, 300.0

    def __init__(self, per_replica: float, most: int) -> None:
        self._per_replica = per_replica
        self._most = most
        self._desired: deque[tuple[float, int]] = deque()

    def desired(self, now: float, metric: float, current: int) -> int:
        ratio = metric / (self._per_replica * current) if current else math.inf
        raw = current if current and abs(ratio - 1) <= self.TOLERANCE else math.ceil(metric / self._per_replica)
        raw = min(self._most, raw)
        self._desired.append((now, raw))
        while self._desired[0][0] < now - self.STABILISATION:
            self._desired.popleft()
        if raw >= current:
            return min(raw, max(2 * current, current + 4))
        return min(current, max(number for _at, number in self._desired))


class KedaHpa:
    """KEDA on the length of the waiting list: looks every 30 s at zero, and leaves the rest to the HPA.

    From 0 to 1 when a poll finds work; from 1 to 0 when none was found for the cooldown of 300 s.
    """

    POLL, COOLDOWN = 30.0, 300.0

    def __init__(self, per_replica: float = 5.0, most: int = 10, name: str = "KEDA + HPA") -> None:
        """Ask for one replica for each ``per_replica`` waiting jobs; 5 is KEDA's default."""
        self.name = name
        self.reacts_in: float | None = None
        self._hpa = _Hpa(per_replica, most)
        self._active_at = -math.inf
        self._next_poll = 0.0

    def look(self, now: float, world: Simulation) -> tuple[Change | None, float]:
        """Poll, or let the HPA decide."""
        if now >= self._next_poll:
            self._next_poll = now + self.POLL
            if world.waiting:
                self._active_at = now
        again = min(self._next_poll, now + _Hpa.SYNC)
        if world.asked == 0:
            return (Change(1), again) if self._active_at == now else (None, self._next_poll)
        if now - self._active_at > self.COOLDOWN and not world.waiting:
            return Change(0), self._next_poll
        desired = max(1, self._hpa.desired(now, world.waiting, world.asked))
        return (Change(desired) if desired != world.asked else None), again


class HpaToZero:
    """The HPA with minReplicas 0 on an external metric that a metrics adapter serves, ``lag`` s old."""

    def __init__(self, per_replica: float = 5.0, most: int = 10, lag: float = 30.0, name: str = "HPA to zero") -> None:
        """Ask for one replica for each ``per_replica`` waiting jobs."""
        self.name = name
        self.reacts_in: float | None = None
        self._hpa = _Hpa(per_replica, most)
        self._lag = lag
        self._past: deque[tuple[float, int]] = deque()

    def look(self, now: float, world: Simulation) -> tuple[Change | None, float]:
        """Decide on what the metric was a while ago."""
        self._past.append((now, world.waiting))
        while len(self._past) > 1 and self._past[1][0] <= now - self._lag:
            self._past.popleft()
        metric = self._past[0][1] if self._past[0][0] <= now - self._lag else 0
        desired = self._hpa.desired(now, metric, world.asked)
        return (Change(desired) if desired != world.asked else None), now + _Hpa.SYNC


class OldScaler:
    """The old suite's scaler: every 5 s one replica if there is any work, else none."""

    INTERVAL = 5.0

    def __init__(self) -> None:
        """Nothing to choose."""
        self.name = "old scaler"
        self.reacts_in: float | None = None

    def look(self, now: float, world: Simulation) -> tuple[Change | None, float]:
        """Switch."""
        wanted = 1 if world.waiting or world.running else 0
        return (Change(wanted) if wanted != world.asked else None), now + self.INTERVAL


class Fixed:
    """Always the same number."""

    def __init__(self, replicas: int) -> None:
        """Keep ``replicas``."""
        self.name = f"fixed pool of {replicas}"
        self.reacts_in: float | None = None
        self._replicas = replicas

    def look(self, _now: float, world: Simulation) -> tuple[Change | None, float]:
        """Begin with all."""
        return (Change(self._replicas) if world.asked != self._replicas else None), math.inf
