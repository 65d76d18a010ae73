"""The discrete-event simulation: jobs wait in one queue, replicas take them, a policy says how many replicas.

Time passes in s. One replica sits on one node; nodes are billed from the wish for them to their removal.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from services.autoscaler.simulate.arrivals import Seconds, Workload
from services.autoscaler.simulate.cluster import ClusterModel

#: s after the end for which what a policy still keeps is counted.
_TAIL = 1800.0
_READY, _DONE, _TAKEN, _ENDED, _LOOK = range(5)


@dataclass(eq=False)
class Replica:
    """One replica on its node."""

    number: int
    wanted: float
    free: int
    ready: bool = False
    stopping: bool = False
    gone: bool = False
    jobs: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        """As the decision knows it."""
        return f"r-{self.number}"


@dataclass(frozen=True)
class Change:
    """What a policy wants: a number of replicas; named idle ones go, or whoever the controller picks."""

    replicas: int
    going: tuple[str, ...] | None = None


class Policy(Protocol):
    """Decides about the number of replicas."""

    name: str

    def look(self, now: float, world: Simulation) -> tuple[Change | None, float]:
        """Return what to change, and the time of the next look without any event (inf for never)."""

    #: s between an event of the queue and the look that it causes; None where events are not seen.
    reacts_in: float | None


@dataclass(frozen=True)
class Outcome:
    """What came of a simulation.

    Attributes:
        policy: its name.
        waits: (n,) s that each job spent otherwise than being worked on for the last time.
        empty_at: s; when the last job was done.
        node_hours: billed.
        gpu_hours: billed.
        money: for the nodes.
        redone: jobs that were begun more than once.
        looks: decisions made.
        sizes: (m, 2) time and number of replicas asked for, at each change.
        backlog: (k, 2) time and jobs waiting, about a thousand points.
    """

    policy: str
    waits: Seconds
    empty_at: float
    node_hours: float
    gpu_hours: float
    money: float
    redone: int
    looks: int
    sizes: Seconds
    backlog: Seconds

    def wait(self, percent: float) -> float:
        """Return a percentile of the waits (s)."""
        return float(np.percentile(self.waits, percent))


class Simulation:
    """One run of one policy. Policies read its public attributes."""

    def __init__(self, workload: Workload, cluster: ClusterModel, policy: Policy, seed: int = 0) -> None:
        """Prepare a run."""
        self.cluster = cluster
        self.workload = workload
        self.replicas: dict[int, Replica] = {}
        self.asked = 0
        self.waiting = 0
        self.running = 0
        self.version = 0
        self._policy = policy
        self._random = np.random.default_rng(seed)
        self._arrivals: list[float] = workload.at.tolist()
        self._service: list[float] = workload.service.tolist()
        self._begun = np.full(len(self._arrivals), np.nan)
        self._waits = np.zeros(len(self._arrivals))
        self._back: deque[int] = deque()
        self._next = 0
        self._arrived = 0
        self._events: list[tuple[float, int, int, int]] = []
        self._free: list[Replica] = []
        self._lingering: list[tuple[float, float]] = []
        self._billed = 0.0
        self._node_since: dict[int, float] = {}
        self._numbers = 0
        self._done = 0
        self._finished_at = 0.0
        self._redone = 0
        self._looks = 0
        self._look_at = math.inf
        self._last_look = -math.inf
        self._sizes: list[tuple[float, int]] = [(0.0, 0)]
        self._backlog: list[tuple[float, int]] = []
        self._sample = max(workload.duration, 1.0) / 1000

    # -- the run

    def run(self) -> Outcome:
        """Run until all jobs are done, the duration is over, and the policy has come to rest."""
        jobs, arrivals, events = len(self._arrivals), self._arrivals, self._events
        self._schedule_look(0.0)
        now = 0.0
        while True:
            next_arrival = arrivals[self._arrived] if self._arrived < jobs else math.inf
            next_event = events[0][0] if events else math.inf
            soonest = min(next_arrival, next_event)
            if self._done == jobs and self._over(soonest):
                break
            now = soonest
            if next_arrival <= next_event:
                self._arrive(now)
            else:
                self._happen(*heapq.heappop(events))
            if not self._backlog or now - self._backlog[-1][0] >= self._sample:
                self._backlog.append((now, self.waiting))
        return self._outcome(max(now, self._finished_at, self.workload.duration))

    def oldest_age(self, now: float) -> float:
        """Return how long the oldest waiting job has waited."""
        if not self.waiting:
            return 0.0
        return now - self._arrivals[self._back[0] if self._back else self._next]

    def _over(self, soonest: float) -> bool:
        """Tell whether nothing that costs is still to come; what is kept for no work is counted for half an hour."""
        end = max(self.workload.duration, self._finished_at)
        return soonest == math.inf or soonest > end + _TAIL or (soonest >= end and not self.replicas)

    def _happen(self, now: float, kind: int, number: int, job: int) -> None:
        if kind == _DONE:
            self._complete(now, number, job)
        elif kind == _LOOK:
            if now == self._look_at:
                self._look(now)
        elif kind == _READY:
            self._become_ready(now, number)
        elif kind == _TAKEN:
            self._be_taken(now, number)
        elif kind == _ENDED:
            self._be_gone(now, number)

    def _arrive(self, now: float) -> None:
        """Take in all jobs that arrive at this moment."""
        first = self._arrived
        while self._arrived < len(self._arrivals) and self._arrivals[self._arrived] <= now:
            self._arrived += 1
        self.waiting += self._arrived - first
        self._assign(now)
        self._noticed(now)

    # -- jobs

    def _assign(self, now: float) -> None:
        """Give waiting jobs to free replicas, the one that was busy last first, so that idle ones stay idle."""
        while self.waiting and self._free:
            replica = self._free[-1]
            if replica.stopping or replica.gone or not replica.free:
                self._free.pop()
                continue
            if self._back:
                job = self._back.popleft()
                self._redone += 1
            else:
                job = self._next
                self._next += 1
            replica.free -= 1
            replica.jobs.add(job)
            self.waiting -= 1
            self.running += 1
            seconds = self._service[job] * self.cluster.slots
            self._begun[job] = now
            heapq.heappush(self._events, (now + seconds, _DONE, replica.number, job))

    def _complete(self, now: float, number: int, job: int) -> None:
        replica = self.replicas.get(number)
        if replica is None or job not in replica.jobs:
            return  # it was interrupted
        replica.jobs.discard(job)
        replica.free += 1
        self.running -= 1
        self._done += 1
        self._finished_at = now
        self._waits[job] = self._begun[job] - self._arrivals[job]
        if replica.stopping:
            if not replica.jobs:
                self._be_gone(now, number)
        else:
            self._free.append(replica)
            if self.waiting:
                self._assign(now)
        self._noticed(now)

    # -- replicas

    def _add(self, now: float) -> None:
        self._numbers += 1
        replica = Replica(self._numbers, now, self.cluster.slots)
        self.replicas[replica.number] = replica
        node = self._lingering_node(now)
        if node is None:
            self._node_since[replica.number] = now
            ready = now + self.cluster.boot_time(self._random) + self.cluster.start
        else:
            self._node_since[replica.number] = node
            ready = now + self.cluster.start
        heapq.heappush(self._events, (ready, _READY, replica.number, 0))
        self.version += 1

    def _lingering_node(self, now: float) -> float | None:
        """Return since when a node is billed that lost its replica and still exists."""
        while self._lingering:
            freed, since = self._lingering.pop()
            if freed + self.cluster.linger > now:
                return since
            self._billed += freed + self.cluster.linger - since
        return None

    def _become_ready(self, now: float, number: int) -> None:
        replica = self.replicas.get(number)
        if replica is None or replica.stopping:
            return
        replica.ready = True
        self.version += 1
        self._free.extend([replica] * replica.free)
        if self.cluster.preempted:
            life = self._random.exponential(3600.0 / self.cluster.preempted)
            heapq.heappush(self._events, (now + life, _TAKEN, number, 0))
        self._assign(now)
        self._noticed(now)

    def _stop(self, now: float, replica: Replica, grace: float) -> None:
        if replica.stopping:
            return
        replica.stopping = True
        self.version += 1
        if replica.jobs and grace > 0:
            heapq.heappush(self._events, (now + grace, _ENDED, replica.number, 0))
        else:
            self._be_gone(now, replica.number)

    def _be_gone(self, now: float, number: int, *, taken: bool = False) -> None:
        """End a replica; what it still holds goes back to the head of the queue."""
        replica = self.replicas.pop(number, None)
        if replica is None:
            return
        replica.gone = True
        self.version += 1
        for job in sorted(replica.jobs, reverse=True):
            self._back.appendleft(job)
        self.waiting += len(replica.jobs)
        self.running -= len(replica.jobs)
        since = self._node_since.pop(number)
        if taken:
            self._billed += now - since
        else:
            self._lingering.append((now, since))
        self._assign(now)
        self._noticed(now)

    def _be_taken(self, now: float, number: int) -> None:
        """Lose a node to preemption: told ``notice`` s before; its controller asks for another at once."""
        replica = self.replicas.get(number)
        if replica is None or replica.stopping:
            return
        if replica.jobs:
            replica.stopping = True
            heapq.heappush(self._events, (now + min(self.cluster.notice, self.cluster.grace), _ENDED, number, 0))
        else:
            self._be_gone(now, number, taken=True)
        self.version += 1
        self._add(now)

    def _scale(self, now: float, change: Change) -> None:
        staying = [replica for replica in self.replicas.values() if not replica.stopping]
        if change.replicas != self.asked:
            self._sizes.append((now, change.replicas))
        self.asked = change.replicas
        for _ in range(change.replicas - len(staying)):
            self._add(now)
        if change.going is not None:
            for name in change.going:
                replica = self.replicas[int(name[2:])]
                assert not replica.jobs, "a busy replica was to go"
                self._stop(now, replica, 0.0)
        elif len(staying) > change.replicas:
            # As a ReplicaSet does: those that are not ready first, then whichever, busy or not.
            order = self._random.permutation(len(staying))
            ranked = sorted(order, key=lambda i: staying[i].ready)
            for i in ranked[: len(staying) - change.replicas]:
                self._stop(now, staying[i], self.cluster.grace)

    # -- looks

    def _noticed(self, now: float) -> None:
        if self._policy.reacts_in is not None:
            self._schedule_look(max(now, self._last_look + self._policy.reacts_in))

    def _schedule_look(self, at: float) -> None:
        if at < self._look_at:
            self._look_at = at
            heapq.heappush(self._events, (at, _LOOK, 0, 0))

    def _look(self, now: float) -> None:
        self._looks += 1
        self._look_at = math.inf
        self._last_look = now
        change, again = self._policy.look(now, self)
        if change is not None:
            self._scale(now, change)
        self._schedule_look(max(again, now + 1e-3))

    # -- the end

    def _outcome(self, now: float) -> Outcome:
        billed = self._billed + sum(now - since for since in self._node_since.values())
        billed += sum(freed + self.cluster.linger - since for freed, since in self._lingering)
        hours = billed / 3600.0
        return Outcome(
            policy=self._policy.name,
            waits=self._waits,
            empty_at=self._finished_at,
            node_hours=hours,
            gpu_hours=hours * self.cluster.gpus,
            money=hours * self.cluster.price,
            redone=self._redone,
            looks=self._looks,
            sizes=np.array([*self._sizes, (now, self.asked)], dtype=float),
            backlog=np.array(self._backlog, dtype=float).reshape(-1, 2),
        )
