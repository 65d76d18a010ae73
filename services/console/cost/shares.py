"""Each job's share of the bill: what its seconds on GPUs and CPUs and its bytes cost, and what was paid for nothing.

A worker and a GPU serve several jobs at once, so a job is not charged for the time in which it was there, but in
proportion: the nodes' working time is divided among the jobs that ran in it by their seconds. What was not worked in
is idle, and all shares plus idle are the bill.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.console.cost.nodes import Bill
from shared.costs import Use, total
from shared.jobs import Job


@dataclass(frozen=True)
class JobUse:
    """What one job used, and whose it is."""

    job: str
    owner: str
    batch: str
    use: Use

    @property
    def bytes(self) -> float:
        """Read and written."""
        return self.use.bytes_in + self.use.bytes_out


@dataclass(frozen=True)
class Share:
    """One job's part of the bill."""

    of: JobUse
    gpu: float
    cpu: float
    network: float

    @property
    def total(self) -> float:
        """Of everything."""
        return self.gpu + self.cpu + self.network


@dataclass(frozen=True)
class Division:
    """The bill, divided."""

    shares: tuple[Share, ...]
    idle: float
    total: float

    def by(self, field: str) -> dict[str, float]:
        """Return the sums by ``owner`` or ``batch``."""
        sums: dict[str, float] = {}
        for share in self.shares:
            name = str(getattr(share.of, field)) or "-"
            sums[name] = sums.get(name, 0.0) + share.total
        return sums


def use_of(job: Job) -> JobUse:
    """Return what a finished job used, by the facts that its worker wrote."""
    return JobUse(job.id, job.owner, job.fields.get("batch", ""), Use.of(job.fields) or Use())


def divide(bill: Bill, uses: Iterable[JobUse], *, gpu_seconds: float, cpu_seconds: float) -> Division:
    """Divide a bill.

    Args:
        bill: of a span of time.
        uses: of the jobs that ran in it.
        gpu_seconds: paid seconds of all GPUs together in that span.
        cpu_seconds: paid seconds of all processors together in that span.
    """
    uses = list(uses)
    used = total(each.use for each in uses)
    gpu = _rate(bill.gpu_nodes, gpu_seconds, used.gpu_seconds)
    cpu = _rate(bill.cpu_nodes, cpu_seconds, used.cpu_seconds)
    network = _rate(bill.network, 0.0, used.bytes_in + used.bytes_out)
    shares = tuple(
        Share(each, each.use.gpu_seconds * gpu, each.use.cpu_seconds * cpu, each.bytes * network) for each in uses
    )
    return Division(shares, bill.total - sum(share.total for share in shares), bill.total)


def _rate(money: float, paid: float, used: float) -> float:
    """Money per used second: jobs that overlap share the second, so never more than the bill is handed out."""
    return money / max(paid, used) if max(paid, used) > 0 else 0.0
