"""The command line of `kiosk simulate`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from services.autoscaler.simulate import arrivals, published, report
from services.autoscaler.simulate.arrivals import DAY, Seconds, Workload
from services.autoscaler.simulate.cluster import ClusterModel
from services.autoscaler.simulate.compare import NAMES, compare
from services.autoscaler.targets import Target
from shared.costs.prices import load
from shared.errors import InvalidInput, KioskError

_KINDS = ("day", "bursts", "constant", "batch", "trace")


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate and print; return the exit code: 0, or 2 with one sentence about what is wrong."""
    options = _parser().parse_args(argv)
    try:
        if options.published:
            print(published.table())
        else:
            _simulate(options)
    except KioskError as error:
        print(f"kiosk simulate: {error}", file=sys.stderr)
        return 2
    return 0


def _simulate(options: argparse.Namespace) -> None:
    workload, cluster = _workload(options), _cluster(options)
    began = time.perf_counter()
    wanted = NAMES if options.policies == "all" else tuple(options.policies.split(","))
    if unknown := sorted(set(wanted) - set(NAMES)):
        raise InvalidInput(f"There is no policy {unknown[0]!r}; there are: {', '.join(NAMES)}, all.")
    found = compare(
        workload, cluster, _target(options, workload, cluster), wanted, rest=options.rest, seed=options.seed
    )
    print(report.table(found))
    print(f"\nSimulated in {time.perf_counter() - began:.1f} s.")
    if options.json:
        _write(options.json, json.dumps(report.plain(found), indent=1))
    if options.plot:
        report.plot(found, options.plot)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}.") from error


def _workload(options: argparse.Namespace) -> Workload:
    random = np.random.default_rng(options.seed)
    duration = options.hours * 3600.0
    at = _arrivals(options, duration, random)
    if options.service_file:
        service = random.choice(arrivals.numbers(options.service_file), len(at))
    else:
        service = arrivals.service_times(len(at), options.service, options.spread, random)
    name = {"day": "a day's curve", "bursts": f"{options.bursts} bursts", "constant": "a constant rate"}
    title = name.get(options.arrivals, "one batch" if options.arrivals == "batch" else str(options.trace))
    return Workload(title, at, service, 0.0 if options.arrivals == "batch" else max(duration, float(at[-1])))


def _arrivals(options: argparse.Namespace, duration: float, random: np.random.Generator) -> Seconds:
    if options.arrivals == "trace":
        if options.trace is None:
            raise InvalidInput("Arrivals by trace need --trace FILE: one number of seconds a line.")
        return arrivals.trace(options.trace)
    if options.arrivals == "batch":
        return arrivals.batch(options.jobs)
    if options.arrivals == "bursts":
        return arrivals.bursts(options.jobs, duration, random, options.bursts)
    return {"day": arrivals.day, "constant": arrivals.constant}[options.arrivals](options.jobs, duration, random)


def _cluster(options: argparse.Namespace) -> ClusterModel:
    price = options.price or load(options.prices).hour(options.machine, options.gpu, spot=options.preemptible)
    return ClusterModel(
        boot=options.boot,
        boot_spread=options.boot_spread,
        start=options.start,
        linger=options.linger,
        slots=options.slots,
        preempted=options.preempted_per_hour,
        price=price,
    )


def _target(options: argparse.Namespace, workload: Workload, cluster: ClusterModel) -> Target:
    given = {
        "name": "simulated",
        "max_wait": options.max_wait,
        "start_seconds": cluster.cold,
        "service_seconds": float(workload.service.mean()),
        "min_replicas": options.min,
        "max_replicas": options.max,
        "cooldown": 30.0,
        "stabilisation_window": 30.0,
    }
    try:
        return Target.model_validate(given | json.loads(options.target))
    except (ValidationError, ValueError, TypeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        said = f"{'.'.join(map(str, first['loc'])) or 'target'}: {first['msg']}" if first else str(error)
        raise InvalidInput(f"The target cannot be simulated: {said}.") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kiosk simulate",
        description="What would the autoscaler do, how long would jobs wait, and what would it cost?",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--arrivals", choices=_KINDS, default="day", help="when jobs arrive")
    add("--jobs", type=_count, default=30_000, help="how many")
    add("--hours", type=_positive, default=DAY / 3600, help="over how long")
    add("--bursts", type=_count, default=24, help="number of bursts")
    add("--trace", type=Path, metavar="FILE", help="arrival times in s, one a line, for --arrivals trace")
    add("--service", type=_positive, default=13.3, help="mean replica-seconds of a job")
    add("--spread", type=_number, default=0.5, help="standard deviation of that, relative to the mean")
    add(
        "--service-file",
        type=Path,
        metavar="FILE",
        help="measured service times in s, one a line, drawn from at random",
    )
    add("--max-wait", type=_positive, default=1800.0, help="wanted longest wait in s")
    add("--min", type=int, default=0, help="fewest replicas")
    add("--max", type=int, default=200, help="most replicas")
    add("--target", default="{}", metavar="JSON", help="further fields of a target, as in KIOSK_TARGETS")
    add("--boot", type=_number, default=150.0, help="median s until a new node is ready")
    add("--boot-spread", type=_number, default=0.25, help="standard deviation of the logarithm of that")
    add("--start", type=_number, default=20.0, help="s from a ready node to a working replica")
    add("--linger", type=_number, default=600.0, help="s that the cluster keeps an empty node (10 min is usual)")
    add("--slots", type=_count, default=1, help="jobs that a replica works on at once")
    add("--preempted-per-hour", type=_number, default=0.0, help="how often a node is taken away")
    add("--prices", default="", help="price list: a date or a file (KIOSK_PRICES, else 2019-06)")
    add("--machine", default="n1-highmem-2", help="machine type of a node, from the price list")
    add("--gpu", default="nvidia-tesla-t4", help="GPU of a node, from the price list; empty: none")
    add("--preemptible", action="store_true", help="take the preemptible prices")
    add("--price", type=_positive, help="money for one node and hour, instead of the price list's")
    add("--policies", default="all", help=f"of {', '.join(NAMES)}; ours is always run")
    add("--rest", type=_positive, default=1.0, help="s between two decisions of ours at least (the service: 0.05)")
    add("--seed", type=int, default=0, help="of all that is random")
    add("--json", type=Path, metavar="FILE", help="write the figures there")
    add("--plot", type=Path, metavar="FILE", help="draw replicas, backlog and costs, as .png or .svg")
    add("--published", action="store_true", help="compute the published run of the old suite, and ours beside it")
    return parser


def _number(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e12:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0")
    return value


def _positive(text: str) -> float:
    value = _number(text)
    if not value:
        raise argparse.ArgumentTypeError("it has to be more than 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 100_000_000:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 to 100,000,000")
    return value
