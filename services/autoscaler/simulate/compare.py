"""Runs policies on the same arrivals and puts what came of them side by side.

A policy with a setting of its own is shown twice: with its default, and with the cheapest setting of a search that
lets its jobs wait no longer than ours do at the 99th percentile, so that costs are compared at equal waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.autoscaler.simulate.arrivals import Workload
from services.autoscaler.simulate.clairvoyant import least_node_hours
from services.autoscaler.simulate.cluster import ClusterModel
from services.autoscaler.simulate.engine import Outcome, Policy, Simulation
from services.autoscaler.simulate.policies import Fixed, HpaToZero, KedaHpa, OldScaler, Ours
from services.autoscaler.targets import Target
from shared.errors import Misconfigured

NAMES = ("ours", "keda", "hpa", "old", "fixed", "optimum")


@dataclass(frozen=True)
class Row:
    """One line of a comparison; `outcome` is None for the optimum, which is no policy."""

    name: str
    node_hours: float
    gpu_hours: float
    money: float
    outcome: Outcome | None = None
    equal_wait: bool = False
    possible: bool = True


@dataclass(frozen=True)
class Comparison:
    """All rows, ours first; and the least cost at our wait, where it was asked for."""

    workload: Workload
    cluster: ClusterModel
    rows: tuple[Row, ...]
    optimum: float | None

    @property
    def ours(self) -> Outcome:
        """What came of ours."""
        assert self.rows[0].outcome is not None
        return self.rows[0].outcome


def compare(
    workload: Workload,
    cluster: ClusterModel,
    target: Target,
    names: tuple[str, ...] = NAMES,
    *,
    rest: float = 1.0,
    seed: int = 0,
) -> Comparison:
    """Run ours and the named others."""

    def run(policy: Policy) -> Outcome:
        return Simulation(workload, cluster, policy, seed).run()

    ours = run(Ours(target, rest=rest))
    rows = [_row(ours)]
    limit = ours.wait(99)
    most = target.max_replicas
    per_replica = (target.max_wait or 0) / target.service_seconds if target.max_wait else target.jobs_per_replica
    if "keda" in names:
        rows.append(_row(run(KedaHpa(5.0, most, name="KEDA + HPA, list length 5"))))
        rows.append(_tuned(run, limit, per_replica, lambda n: KedaHpa(n, most, name=f"KEDA + HPA, tuned ({n:.3g})")))
    if "hpa" in names:
        rows.append(_row(run(HpaToZero(5.0, most, name="HPA to zero, 5 a replica"))))
        rows.append(_tuned(run, limit, per_replica, lambda n: HpaToZero(n, most, name=f"HPA to zero, tuned ({n:.3g})")))
    if "old" in names:
        rows.append(_row(run(OldScaler())))
    if "fixed" in names:
        rows.append(_fixed(run, limit, most))
    optimum = None
    if "optimum" in names:
        optimum = _optimum(workload, cluster, limit, rows)
    return Comparison(workload, cluster, tuple(rows), optimum)


def _optimum(workload: Workload, cluster: ClusterModel, limit: float, rows: list[Row]) -> float | None:
    try:
        hours = least_node_hours(workload, cluster, limit)
    except Misconfigured:
        return None
    rows.append(Row("clairvoyant lower bound", hours, hours * cluster.gpus, hours * cluster.price, equal_wait=True))
    return hours


def _row(outcome: Outcome, *, equal_wait: bool = False, possible: bool = True) -> Row:
    return Row(outcome.policy, outcome.node_hours, outcome.gpu_hours, outcome.money, outcome, equal_wait, possible)


def _tuned(run: Callable[[Policy], Outcome], limit: float, most: float, make: Callable[[float], Policy]) -> Row:
    """Search the number of jobs for one replica by bisection on its logarithm: more jobs are cheaper and slower."""
    low, high = 0.25, max(2 * most, 1.0)
    best: Outcome | None = None
    fastest: Outcome | None = None
    for _ in range(8):
        middle = (low * high) ** 0.5
        outcome = run(make(middle))
        if outcome.wait(99) <= limit:
            low = middle
            if best is None or outcome.money < best.money:
                best = outcome
        else:
            high = middle
            if fastest is None or outcome.wait(99) < fastest.wait(99):
                fastest = outcome
    if best is not None:
        return _row(best, equal_wait=True)
    assert fastest is not None
    return _row(fastest, possible=False)


def _fixed(run: Callable[[Policy], Outcome], limit: float, most: int) -> Row:
    """Find the smallest fixed pool whose jobs wait no longer than ours."""
    low, high = 0, max(most, 1)
    found: Outcome | None = None
    while high - low > 1 or found is None:
        middle = (low + high + 1) // 2
        outcome = run(Fixed(middle))
        if outcome.wait(99) <= limit:
            found, high = outcome, middle
        elif middle == high:
            return _row(outcome, possible=False)
        else:
            low = middle
        if high - low <= 1 and found is not None:
            break
    return _row(found, equal_wait=True)
