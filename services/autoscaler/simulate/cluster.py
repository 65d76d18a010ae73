"""What a cluster costs in time and money: nodes, cold starts, preemption, prices."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.errors import InvalidInput

PRICES = Path(__file__).parent / "prices"


@dataclass(frozen=True)
class ClusterModel:
    """One node for each replica.

    Attributes:
        boot: s; median time from the wish for a node to its being ready, with its GPU driver.
        boot_spread: standard deviation of the logarithm of that time.
        start: s from a ready node to a working replica (image, model load).
        linger: s that a node without replicas is kept by the cluster's own autoscaler; a new replica may take it.
        slots: jobs that a replica works on at once; together they are as fast as one by one.
        preempted: how often a node is taken away, per hour; 0 for on-demand nodes.
        notice: s between the notice and the taking away.
        grace: s that a replica told to end may finish its jobs in.
        gpus: of a replica.
        price: money for one node and hour.
    """

    boot: float = 150.0
    boot_spread: float = 0.25
    start: float = 20.0
    linger: float = 600.0
    slots: int = 1
    preempted: float = 0.0
    notice: float = 30.0
    grace: float = 30.0
    gpus: float = 1.0
    price: float = 1.0684

    def boot_time(self, random: np.random.Generator) -> float:
        """Return s until a new node is ready."""
        return float(self.boot * np.exp(self.boot_spread * random.standard_normal())) if self.boot else 0.0

    @property
    def cold(self) -> float:
        """Median s from the wish for a replica to its working, on a new node."""
        return self.boot + self.start


def prices(name: str = "2019-06") -> dict[str, tuple[float, float]]:
    """Return a price list: type of machine or GPU to (on demand, preemptible), in US dollars an hour.

    Raises:
        InvalidInput: there is no such list.
    """
    path = PRICES / f"{name}.csv"
    if not path.exists():
        known = ", ".join(sorted(found.stem for found in PRICES.glob("*.csv")))
        raise InvalidInput(f"There is no price list {name!r}; there are: {known}.")
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {row["type"]: (float(row["on_demand"]), float(row["preemptible"])) for row in rows}
