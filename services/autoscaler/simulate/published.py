"""The published run of the old suite, computed anew: a check of this simulation's arithmetic, then ours beside it.

The inputs are the published ones: a million images of 1280 x 1080 pixels in zips of 100, 8 GPUs at 6.3 images a second
each, 33 MB for each image between consumers and model servers in two zones, Google's list prices of June 2019. GPU
time is thus an input, not a prediction. What was not published is assumed and named: half of the traffic crosses the
zones (consumers and servers spread evenly over the two), GPU nodes are n1-highmem-2 with a Tesla T4, and ten consumers
on one n1-standard-1 each feed one GPU, all on demand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.autoscaler.simulate.arrivals import Workload
from services.autoscaler.simulate.cluster import ClusterModel
from services.autoscaler.simulate.engine import Outcome, Policy, Simulation
from services.autoscaler.simulate.policies import Fixed, Ours
from services.autoscaler.targets import Target
from shared.costs.prices import Prices, load

IMAGES, IN_ZIP, GPUS, RATE = 1_000_000, 100, 8, 6.3
PIXELS = 1280 * 1080
#: Published figures that the arithmetic has to arrive at.
HOURS, MONEY = 5.5, 250.0
#: GB of one file in storage.
_FILE_GB = 0.0015


@dataclass(frozen=True)
class Setup:
    """One way to run it.

    Attributes:
        name: for the table.
        megabytes: MB between consumer and model server for one image.
        crossing: share of that traffic which crosses zones.
        consumers: CPU nodes for each GPU.
        overhead: share of GPU time spent on other things than inference (1 is none).
        cluster: nodes; GPUs of the run.
    """

    name: str
    megabytes: float
    crossing: float
    consumers: float
    overhead: float
    cluster: ClusterModel


@dataclass(frozen=True)
class Bill:
    """What a run takes and costs: hours, and US dollars by part."""

    hours: float
    gpu_nodes: float
    cpu_nodes: float
    traffic: float
    storage: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.gpu_nodes + self.cpu_nodes + self.traffic + self.storage


def prices() -> Prices:
    """Return the prices of that time."""
    return load("2019-06")


def node_price() -> float:
    """Return US$ an hour of a GPU node."""
    return prices().hour("n1-highmem-2", "nvidia-tesla-t4")


def old_setup() -> Setup:
    """Return the published one; its eight GPUs are there from the beginning."""
    return Setup("published run", 33.0, 0.5, 10.0, 1.0, ClusterModel(boot=0, start=0, linger=0, price=node_price()))


def our_setup(overhead: float = 1.0, crossing: float = 0.0, consumers: float = 2.0) -> Setup:
    """Return ours: 16-bit pixels go once to the model server and one byte for each comes back.

    The chart keeps consumers and servers in one zone; `overhead` is measured (see docs/autoscaler.md), as are the
    CPU nodes that feed one GPU.
    """
    megabytes = PIXELS * (2 + 1) / 1e6
    return Setup("CellKiosk", megabytes, crossing, consumers, overhead, ClusterModel(price=node_price()))


def run(setup: Setup, policy: Policy | None = None) -> tuple[Outcome, Bill]:
    """Simulate a setup with its million images waiting from the beginning."""
    service = np.full(IMAGES, setup.overhead / RATE)
    workload = Workload("a million images", np.zeros(IMAGES), service, 0.0)
    if policy is None:
        policy = Fixed(GPUS)
    outcome = Simulation(workload, setup.cluster, policy).run()
    return outcome, bill(setup, outcome)


def ours(setup: Setup) -> tuple[Outcome, Bill]:
    """Simulate a setup under our autoscaler, which begins with no GPU and has eight at most."""
    target = Target(
        name="gpu",
        max_replicas=GPUS,
        max_wait=1800.0,
        start_seconds=setup.cluster.cold,
        service_seconds=1 / RATE,
        cooldown=30.0,
        stabilisation_window=30.0,
    )
    return run(setup, Ours(target, rest=5.0))


def bill(setup: Setup, outcome: Outcome) -> Bill:
    """Return what an outcome costs at the prices of that time."""
    hours, listed = outcome.empty_at / 3600, prices()
    stored = IMAGES * _FILE_GB * listed.of("storage", "gb-month") * hours / (30 * 24)
    read, written = listed.of("storage", "class-b"), listed.of("storage", "class-a")  # for 10,000
    operations = (IMAGES / IN_ZIP * written + IMAGES * read) / 10_000
    return Bill(
        hours=hours,
        gpu_nodes=outcome.node_hours * setup.cluster.price,
        cpu_nodes=setup.consumers * GPUS * listed.hour("n1-standard-1") * hours,
        traffic=IMAGES * setup.megabytes / 1000 * setup.crossing * listed.of("network", "zone"),
        storage=stored + operations,
    )


def table() -> str:
    """Run the published setup and ours; return both bills as text."""
    _outcome, old = run(old_setup())
    _outcome, new = ours(our_setup())
    lines = [
        f"{IMAGES:,} images of 1280 x 1080 in zips of {IN_ZIP}, {GPUS} GPUs at {RATE} images/s, prices of June 2019",
        "",
        f"{'':34}{'published run':>15}{'CellKiosk':>12}",
        f"{'MB for an image between services':34}{old_setup().megabytes:>15.1f}{our_setup().megabytes:>12.1f}",
        f"{'hours':34}{old.hours:>15.2f}{new.hours:>12.2f}",
    ]
    for label, name in (
        ("GPU nodes, US$", "gpu_nodes"),
        ("CPU nodes, US$", "cpu_nodes"),
        ("traffic between zones, US$", "traffic"),
        ("storage and its operations, US$", "storage"),
        ("in all, US$", "total"),
    ):
        lines.append(f"{label:34}{getattr(old, name):>15.2f}{getattr(new, name):>12.2f}")
    lines += ["", f"Published: {HOURS} h and about US${MONEY:.0f}."]
    return "\n".join(lines)
