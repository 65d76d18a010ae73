"""The least that anybody could have paid, with all arrivals known beforehand: a lower bound by linear programming.

Relaxed in the optimum's favour: replicas may be fractions, work flows, booting and lingering take their median time
exactly, and nodes may boot before the jobs arrive. So no real policy, clairvoyant or not, can be cheaper at this wait.
"""

from __future__ import annotations

import numpy as np

from services.autoscaler.simulate.arrivals import Seconds, Workload
from services.autoscaler.simulate.cluster import ClusterModel
from shared.errors import Misconfigured


def least_node_hours(workload: Workload, cluster: ClusterModel, wait: float, percent: float = 99.0) -> float:
    """Return the least node-hours with which ``percent`` of the jobs wait no longer than ``wait`` (s).

    Variables for each time step k of length d: n_k replicas, u_k additions, S_k work done so far, e_k work that is
    excused from waiting no longer than allowed (in all as much as the largest of the excused jobs hold).

        minimise   sum d n_k + (boot + start + linger) u_k
        subject to u_k >= n_k - n_(k-1),  S_k - S_(k-1) <= d n_k,  S_k <= A_k,  S_k >= A(t_k - wait) - E,  S_end = A_end

    Raises:
        Misconfigured: scipy is not installed.
    """
    try:
        from scipy.optimize import linprog
        from scipy.sparse import block_array, diags_array, eye_array
    except ImportError as error:
        raise Misconfigured("The clairvoyant optimum needs scipy, which is not installed here.") from error

    ends, arrived, due, excused = _curves(workload, wait, percent)
    steps, length = len(ends), float(ends[0])
    unit = length  # work in replica-steps, so that all variables are of one size
    one = eye_array(steps)
    difference = diags_array([np.ones(steps), -np.ones(steps - 1)], offsets=[0, -1])
    constraints = block_array(
        [
            [difference, -one, None, None],  # additions
            [-one, None, difference, None],  # no more is done than replicas can
            [None, None, -one, -one],  # what is due is done or excused
            [None, None, None, -difference],  # what is excused stays so
        ],
        format="csr",
    )
    limits = np.concatenate([np.zeros(2 * steps), -due / unit, np.zeros(steps)])
    cost = np.concatenate([np.full(steps, length), np.full(steps, cluster.cold + cluster.linger), np.zeros(2 * steps)])
    most = np.concatenate([np.full(2 * steps, np.inf), arrived / unit, np.full(steps, excused / unit)])
    least = np.zeros(4 * steps)
    least[3 * steps - 1] = workload.work / unit * (1 - 1e-9)
    most[3 * steps - 1] = workload.work / unit
    solved = linprog(cost, A_ub=constraints, b_ub=limits, bounds=np.column_stack([least, most]), method="highs")
    if not solved.success:
        raise Misconfigured(f"The clairvoyant optimum was not found: {solved.message}")
    return float(solved.fun) / 3600.0


def _curves(workload: Workload, wait: float, percent: float) -> tuple[Seconds, Seconds, Seconds, float]:
    """Return the ends of the time steps, the work arrived and the work due by then, and the work excused (all s)."""
    longest = float(np.quantile(workload.service, 0.999))
    horizon = max(workload.duration, float(workload.at[-1])) + wait + longest
    steps = int(np.clip(horizon / max(wait / 8, 20.0), 200, 2500))
    ends = horizon / steps * np.arange(1, steps + 1)
    done = np.concatenate([[0.0], np.cumsum(workload.service)])
    arrived = done[np.searchsorted(workload.at, ends, side="right")]
    # A job that waits no longer than allowed has been begun by then; it is done its service time later at most.
    due = done[np.searchsorted(workload.at, ends - wait - longest, side="right")]
    largest = np.sort(workload.service)[::-1]
    excused = float(largest[: int(len(largest) * (1 - percent / 100))].sum())
    return np.asarray(ends, np.float64), np.asarray(arrived), np.asarray(due), excused
