"""The figures that CellKiosk has promised itself, each with its target; one that was not measured counts as missed.

A figure is a row that a benchmark tells, named by its ``metric``. Where engines are compared and the promise is about
the best of them, the row whose ratio is the worst for us counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.report import Row

#: Any peer: the one beside which we look worst.
BEST = "the best of them"


@dataclass(frozen=True)
class Promise:
    """One figure.

    Attributes:
        benchmark: the script that measures it.
        metric: the row's.
        peer: the row's, `BEST`, or empty for a row without a peer or with only one.
        at_least, at_most: bounds on the ratio where the row has a peer, else on our figure; neither: only to be told.
        of_ours: the bounds are on our figure though there is a peer.
        less: less is better; said where there is no bound that says it.
    """

    benchmark: str
    metric: str
    peer: str = ""
    at_least: float | None = None
    at_most: float | None = None
    of_ours: bool = False
    less: bool = False

    def judge(self, told: Iterable[Row]) -> Row:
        """Return the figure with this promise's own target."""
        found = [row for row in told if row.metric == self.metric and self._is_peer(row.peer)]
        if not found:
            return Row(self.metric, "", None, self.peer, target=f"{self._target('')} (not measured)".strip(), ok=False)
        sign = -1.0 if self.less or self.at_most is not None else 1.0
        row = min(found, key=lambda each: sign * self._value(each))
        value, unit = self._value(row), f" {row.unit}" if self._judges_ours(row) else "×"
        met = None
        if self.at_least is not None:
            met = value >= self.at_least
        elif self.at_most is not None:
            met = value <= self.at_most
        return replace(row, target=self._target(unit), ok=met)

    def _is_peer(self, name: str) -> bool:
        return name == self.peer or not self.peer or (self.peer == BEST and bool(name))

    def _judges_ours(self, row: Row) -> bool:
        return self.of_ours or row.ratio is None

    def _value(self, row: Row) -> float:
        value = row.ours if self._judges_ours(row) else row.ratio
        return 0.0 if value is None else value

    def _target(self, unit: str) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}{unit}".rstrip()
        return f"≤ {self.at_most:g}{unit}".rstrip() if self.at_most is not None else ""


def _engine() -> Iterable[Promise]:
    yield Promise("engine", "submit to start, p50", at_most=5, of_ours=True)
    yield Promise("engine", "submit to start, p99", at_most=50, of_ours=True)
    yield Promise("engine", "submit to start, p50", "SAQ", at_most=1)
    yield Promise("engine", "submit to start, p50", "bare notify-then-claim", at_most=1.5)
    yield Promise("engine", "no-op jobs, 1 worker", "SAQ", at_least=1)
    for workers in ("1 worker", "4 workers"):
        yield Promise("engine", f"no-op jobs, {workers}", BEST, at_least=3)
        for cost in ("CPU of workers and Redis", "Redis commands", "bytes to and from Redis"):
            yield Promise("engine", f"{cost}, {workers}", BEST, less=True)
    for where in ("", ", 2 ms away"):
        for how in ("single", "bulk"):
            yield Promise("engine", f"submit, {how}{where}", BEST)
    yield Promise("engine", "no-op jobs, 1 worker, 2 ms away", BEST, at_least=3)
    yield Promise("engine", "no-op jobs, 4 workers, 2 ms away", BEST, at_least=3)
    yield Promise("engine", "submit to start, p50, 2 ms away", "SAQ")
    yield Promise("engine", "submit to start, p99, 2 ms away", "SAQ")
    yield Promise("engine", "claimed jobs, backlog of 1,000,000", at_least=0.9)
    yield Promise("engine", "memory of a waiting job beyond its own fields", at_most=1024)


def _pipeline() -> Iterable[Promise]:
    through = "images/s through the whole path"
    yield Promise("pipeline", f"{through}, Standin", at_least=0.7)
    yield Promise("pipeline", f"{through}, Standin", at_least=0.9)
    yield Promise("pipeline", f"{through}, NuclearSegmentation")
    yield Promise("pipeline", "share of wall time in which the network of Standin itself runs", at_least=0.95)
    yield Promise("pipeline", "CPU of all processes together per megapixel", at_most=0.15)
    less = "CPU of all processes less ONNX Runtime's own run time per megapixel"
    yield Promise("pipeline", f"{less}, NuclearSegmentation", at_most=0.15)
    for process in ("the worker", "the decoders", "Triton", "the model's process", "Redis"):
        yield Promise("pipeline", f"CPU of {process} per megapixel")
    for stage in ("decoding", "intensity window", "watershed", "label TIFF", "zip", "preview"):
        yield Promise("pipeline", f"CPU of stage {stage}, alone")
    moved = "bytes to and from the model server over bytes of the decoded pixels"
    yield Promise("pipeline", moved, at_most=2.5)
    for jobs in (1, 10, 100):
        yield Promise("pipeline", f"peak memory of one worker at {jobs} jobs of 1024² in flight")
    yield Promise("pipeline", "time of one image of 20,000²")
    yield Promise("pipeline", "peak memory of one image of 20,000²", at_most=2000)
    yield Promise("pipeline", "time of an archive of 1,000 images of 256², Standin")
    yield Promise("pipeline", "peak memory of an archive of 1,000 images, Standin")


def _imaging() -> Iterable[Promise]:
    timed = (
        "watershed: h-maxima and flooding",
        "holes of an interior",
        "percentiles and rescaling",
        "adaptive histogram equalisation",
        "renumbering labels",
        "removing small objects",
        "area, centroid and box of each object",
        "spots: Laplacian of Gaussian and maxima",
    )
    for stage in timed:
        yield Promise("imaging", stage, at_most=1)
    yield Promise("imaging", "watershed: pixels with the same label", at_least=0.999)
    yield Promise("imaging", "renumbering: the same labels", at_least=1)


def _front() -> Iterable[Promise]:
    for what, most in (("1 × 1 GB", 64), ("50 × 100 MB", 256)):
        yield Promise("frontend", f"upload {what}", at_least=0.8)
        yield Promise("frontend", f"upload {what}: memory above idle", at_most=most)
    yield Promise("frontend", "/api/predict", at_least=0.5)
    yield Promise("frontend", "/api/redis", at_least=0.5)
    yield Promise("frontend", "10,000 streams: memory each", at_most=20)
    yield Promise("frontend", "10,000 streams: event delay p99 at 500/s", at_most=100)
    yield Promise("page", "first paint")
    yield Promise("page", "interactive, own jobs there")
    yield Promise("page", "bytes up to the first image", at_most=250)
    yield Promise("page", "main thread per frame, p50", at_most=8)
    yield Promise("page", "main thread per frame, p95", at_most=8)


def _autoscaler() -> Iterable[Promise]:
    yield Promise("autoscaler", "first job to patched scale, p50")
    yield Promise("autoscaler", "first job to patched scale, p99", at_most=0.1, of_ours=True)
    yield Promise("autoscaler", "share of a core at 1,000 jobs/s, 200 queues, 50 targets", at_most=0.05)
    yield Promise("autoscaler", "API calls a minute meanwhile", at_most=600)
    yield Promise("autoscaler", "vanished pod to its work requeued, longest of 10", at_most=1)
    yield Promise("autoscaler", "simulation of 1,000,000 jobs", at_most=60)
    cheapest = "over the cheapest other, its setting searched with hindsight for our wait"
    for kind in ("day", "bursts"):
        yield Promise("autoscaler", f"cost, {kind}: over the clairvoyant bound at equal p99 wait", at_most=1.25)
        yield Promise("autoscaler", f"cost, {kind}: {cheapest}", at_most=1)


def _footprint() -> Iterable[Promise]:
    yield Promise("footprint", "idle memory, all four", at_most=350)
    yield Promise("footprint", "idle CPU, all four", at_most=2)
    for service in ("frontend", "janitor", "autoscaler"):
        yield Promise("footprint", f"{service} start to ready", at_most=1.5)
    yield Promise("footprint", "consumer start to ready", at_most=3)
    for what in ("/api/predict", "/api/redis", "no-op jobs"):
        yield Promise("telemetry", f"{what} with metrics and traces", at_least=0.95)


PROMISES: Sequence[Promise] = (
    *_engine(),
    *_pipeline(),
    *_imaging(),
    *_front(),
    *_autoscaler(),
    *_footprint(),
)


def judged(told: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Return a row for each promise, from what each benchmark told."""
    return [promise.judge(told.get(promise.benchmark, ())) for promise in PROMISES]
