"""What a cluster costs in time and money: nodes, cold starts, preemption, prices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
