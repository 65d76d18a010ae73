"""Each job's share of the bill: what its seconds on GPUs and CPUs and its bytes cost, and what was paid for nothing.

A worker and a GPU serve several jobs at once, so a job is not charged for the time in which it was there, but in
proportion: the nodes' working time is divided among the jobs that ran in it by their seconds. What was not worked in
is idle, and all shares plus idle are the bill.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.console.cost.nodes import Bill
from shared.jobs import Job


@dataclass(frozen=True)
class Use:
    """What one job used."""

    job: str
    owner: str
    batch: str
    gpu_seconds: float
    """In which its inference was under way."""
    cpu_seconds: float
    """Of all its other stages."""
    bytes: float
    """Read and written."""


@dataclass(frozen=True)
class Share:
    """One job's part of the bill."""

    use: Use
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
            name = str(getattr(share.use, field)) or "-"
            sums[name] = sums.get(name, 0.0) + share.total
        return sums


def use_of(job: Job) -> Use:
    """Return what a finished job used, by the facts that its worker wrote."""
    seconds = {stage: _sum(job.fields.get(f"{stage}_time", "")) for stage in _STAGES}
    return Use(
        job.id,
        job.owner,
        job.fields.get("batch", ""),
        seconds.pop("prediction"),
        sum(seconds.values()),
        _sum(job.fields.get("input_bytes", "")) + _sum(job.fields.get("output_bytes", "")),
    )


_STAGES = ("download", "preprocess", "prediction", "postprocess", "upload")


def divide(bill: Bill, uses: Iterable[Use], *, gpu_seconds: float, cpu_seconds: float) -> Division:
    """Divide a bill.

    Args:
        bill: of a span of time.
        uses: of the jobs that ran in it.
        gpu_seconds: paid seconds of all GPUs together in that span.
        cpu_seconds: paid seconds of all workers together in that span.
    """
    uses = list(uses)
    gpu = _rate(bill.gpu_nodes, gpu_seconds, sum(use.gpu_seconds for use in uses))
    cpu = _rate(bill.cpu_nodes, cpu_seconds, sum(use.cpu_seconds for use in uses))
    network = _rate(bill.network, 0.0, sum(use.bytes for use in uses))
    shares = tuple(Share(use, use.gpu_seconds * gpu, use.cpu_seconds * cpu, use.bytes * network) for use in uses)
    return Division(shares, bill.total - sum(share.total for share in shares), bill.total)


def _rate(money: float, paid: float, used: float) -> float:
    """Money per used second: jobs that overlap share the second, so never more than the bill is handed out."""
    return money / max(paid, used) if max(paid, used) > 0 else 0.0


def _sum(text: str) -> float:
    """Add up a fact: a number, or those of an archive's images joined by commas."""
    try:
        return sum(float(part) for part in text.split(",") if part)
    except ValueError:
        return 0.0


def summed(division: Division) -> Mapping[str, float]:
    """Return the sums that `kiosk benchmark` writes into its document."""
    return {"jobs": sum(share.total for share in division.shares), "idle": division.idle, "total": division.total}
