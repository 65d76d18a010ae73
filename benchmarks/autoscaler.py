"""How fast and how cheap the autoscaler is: ``python -m benchmarks.autoscaler [--json FILE] [--only WORDS]``.

The first figures need a real Kubernetes API (KIOSK_TEST_CONTROL_PLANE, see tests/fixtures/kubernetes.py) and a real
Redis; the service runs as its own process. KEDA's figures are its documented intervals, not measured here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from benchmarks.report import Row, options, row, tell
from services.autoscaler.simulate import arrivals
from services.autoscaler.simulate.arrivals import DAY, Workload
from services.autoscaler.simulate.cluster import ClusterModel
from services.autoscaler.simulate.compare import Comparison, compare
from services.autoscaler.simulate.engine import Simulation
from services.autoscaler.simulate.policies import Ours
from services.autoscaler.targets import Target
from shared.jobs import JobStore, NewJob, open_store
from shared.jobs.model import new_id
from shared.jobs.notifications import switch_on
from tests.fixtures.kubernetes import ControlPlane, Namespace, control_plane_scripts, eventually, new_namespace
from tests.fixtures.redis import RedisServer, free_port

PREFIX = "{autoscaler-bench}:"
ROUNDS, LOAD_SECONDS, RATE, QUEUES, TARGETS = 60, 30.0, 1000, 200, 50


class Bench:
    """The real surroundings: a control plane without nodes, a Redis, and services as processes."""

    def __init__(self, plane: ControlPlane, namespace: Namespace, redis: RedisServer, store: JobStore) -> None:
        self.plane, self.namespace, self.redis, self.store = plane, namespace, redis, store

    @contextlib.asynccontextmanager
    async def service(self, module: str, **environment: str) -> AsyncIterator[tuple[int, int]]:
        """Run a service; yield its process id and the port of its metrics, once it is ready."""
        port = free_port()
        common = {
            "KIOSK_NAME": module,
            "KIOSK_HEALTH__PORT": str(port),
            "KIOSK_HEALTH__HOST": "127.0.0.1",
            "KIOSK_REDIS__URL": self.redis.url,
            "KIOSK_REDIS__PREFIX": PREFIX,
            "KIOSK_KUBERNETES__KUBECONFIG": self.plane.kubeconfig,
            "KIOSK_KUBERNETES__NAMESPACE": self.namespace.name,
            "KIOSK_TELEMETRY__LOG_LEVEL": "error",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"services.{module}", env=os.environ | common | environment
        )
        try:
            await eventually(lambda: _ready(port), 60)
            yield process.pid, port
        finally:
            process.terminate()
            await process.wait()


async def _ready(port: int) -> bool:
    with contextlib.suppress(aiohttp.ClientError, OSError):
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status == 200
    return False


@contextlib.asynccontextmanager
async def surroundings() -> AsyncIterator[Bench | None]:
    """Start everything; None where there is no control plane."""
    scripts = control_plane_scripts()
    if scripts is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        plane = ControlPlane(scripts, Path(folder) / "cluster").start()
        redis = RedisServer(Path(folder) / "redis").start()
        store = open_store(redis.url, PREFIX)
        try:
            await switch_on(store.redis)
            namespace = await new_namespace(plane)
            yield Bench(plane, namespace, redis, store)
            await namespace.cluster.aclose()
        finally:
            await store.aclose()
            redis.stop(kill=True)
            plane.stop()


async def reaction(bench: Bench) -> list[Row]:
    """First job on an empty system until the API server has the new scale, as a watch of the target sees it."""
    await bench.namespace.workload("first")
    target = {"name": "first", "queues": {"first": 1}, "jobs_per_replica": 1, "max_replicas": 1, "cooldown": 0.1}
    sizes: asyncio.Queue[tuple[float, int]] = asyncio.Queue()
    watching = asyncio.create_task(_watch_size(bench.namespace, "first", sizes))
    took = []
    async with bench.service("autoscaler", KIOSK_TARGETS=json.dumps([{**target, "stabilisation_window": 0.1}])):
        for _ in range(ROUNDS):
            await asyncio.sleep(random.uniform(0.2, 0.4))  # anywhere in the service's cycle
            began = time.perf_counter()
            await bench.store.submit(NewJob(new_id("first")))
            took.append(await _size(sizes, 1) - began)
            (job,) = (await bench.store.claim("worker", ["first"], 1, 60.0)).jobs
            await bench.store.complete("worker", (job.held, {}))
            await _size(sizes, 0)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    keda = 15.0  # the mean of its default polling interval of 30 s
    p50, p99 = statistics.median(took), float(np.percentile(took, 99))
    return [
        Row("first job to patched scale, p50", "s", p50, "KEDA, mean of 0-30 s", keda, p50 / keda, "", None),
        Row("first job to patched scale, p99", "s", p99, "KEDA, longest", 30.0, p99 / 30, "≤ 0.1 s", p99 <= 0.1),
    ]


async def _watch_size(namespace: Namespace, name: str, sizes: asyncio.Queue[tuple[float, int]]) -> None:
    path = f"{namespace.apps}/deployments"
    _items, version = await namespace.cluster.list_all(path)
    async for event in namespace.cluster.watch(path, version, 3600):
        if event["type"] == "MODIFIED" and event["object"]["metadata"]["name"] == name:
            sizes.put_nowait((time.perf_counter(), event["object"]["spec"]["replicas"]))


async def _size(sizes: asyncio.Queue[tuple[float, int]], wanted: int) -> float:
    async with asyncio.timeout(30):
        while True:
            at, size = await sizes.get()
            if size == wanted:
                return at


async def load(bench: Bench) -> list[Row]:
    """1,000 jobs a second on 200 queues and 50 targets: share of a core, and API calls."""
    kinds = [f"load-{i}" for i in range(QUEUES)]
    targets = []
    for i in range(TARGETS):
        await bench.namespace.workload(f"load-{i}")
        queues = dict.fromkeys(kinds[i::TARGETS], 1)
        targets.append({"name": f"load-{i}", "queues": queues, "jobs_per_replica": 8, "max_replicas": 4})
    stop = asyncio.Event()
    driving = asyncio.create_task(_drive(bench, kinds, stop))
    async with bench.service("autoscaler", KIOSK_TARGETS=json.dumps(targets)) as (pid, port):
        await asyncio.sleep(10.0)  # the first replicas are there
        cpu, calls, began = _cpu_seconds(pid), await _calls(port), time.monotonic()
        await asyncio.sleep(LOAD_SECONDS)
        seconds = time.monotonic() - began
        share = (_cpu_seconds(pid) - cpu) / seconds
        a_minute = (await _calls(port) - calls) / seconds * 60
        memory = int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) / 1024
    stop.set()
    submitted = await driving
    bound = 600.0  # the client's own limit of 10 calls a second
    return [
        Row(
            "arrivals while loaded",
            "jobs/s",
            submitted,
            "",
            None,
            None,
            f"≥ {0.95 * RATE:g} jobs/s",
            submitted >= 0.95 * RATE,
        ),
        row("share of a core at 1,000 jobs/s, 200 queues, 50 targets", "", share, at_most=0.05),
        row("API calls a minute meanwhile", "1/min", a_minute, at_most=bound),
        row("memory meanwhile", "MB", memory),
    ]


async def _drive(bench: Bench, kinds: list[str], stop: asyncio.Event) -> float:
    """Submit at the rate and work everything off; return the rate that was reached (jobs/s)."""
    began, submitted = time.monotonic(), 0
    while not stop.is_set():
        due = int((time.monotonic() - began) * RATE) - submitted
        jobs = [NewJob(new_id(random.choice(kinds))) for _ in range(min(due, 200))]
        if jobs:
            await bench.store.submit(*jobs)
            submitted += len(jobs)
        claimed = (await bench.store.claim("driver", kinds, 200, 60.0)).jobs
        if claimed:
            await bench.store.complete("driver", *((job.held, {}) for job in claimed))
        await asyncio.sleep(0.05)
    return submitted / (time.monotonic() - began)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _calls(port: int) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        text = await answer.text()
    return sum(map(float, re.findall(r"^kiosk_autoscaler_api_calls_total\{[^}]*\} (\S+)", text, re.MULTILINE)))


async def vanished(bench: Bench) -> list[Row]:
    """A pod that holds a job is removed: until the janitor has put the job back in its queue."""
    environment = {
        "KIOSK_PODS__WATCH": "true",
        "KIOSK_PODS__NAMESPACE": bench.namespace.name,
        "KIOSK_PODS__KUBECONFIG": bench.plane.kubeconfig,
        "KIOSK_STORAGE__URL": f"file://{bench.redis.folder}/storage",
    }
    took: list[float] = []
    try:
        async with bench.service("janitor", **environment):
            while len(took) < 10 and max(took, default=0) < _GIVE_UP:
                took.append(await _vanish(bench, f"worker-{len(took)}"))
    except AssertionError as error:
        print(f"The janitor cannot watch pods here: {error}", file=sys.stderr)
        took.append(_GIVE_UP)
    return [row("vanished pod to its work requeued, longest of 10", "s", max(took), at_most=1.0)]


#: s after which no answer is the answer.
_GIVE_UP = 10.0


async def _vanish(bench: Bench, name: str) -> float:
    """Let a worker claim a job, remove its pod, and return s until the job waits again."""
    pods = bench.namespace.cluster.pods()
    spec = {"containers": [{"name": "main", "image": "none"}], "nodeName": "nowhere"}
    labels = {"app.kubernetes.io/part-of": "cellkiosk"}
    await bench.namespace.cluster.post(pods, {"metadata": {"name": name, "labels": labels}, "spec": spec})
    await bench.store.submit(NewJob(new_id("vanish")))
    await bench.store.heartbeat(name, 60.0, {"types": "vanish", "pod": name})
    await bench.store.claim(name, ["vanish"], 1, 60.0)
    await asyncio.sleep(0.3)
    began = time.perf_counter()
    await bench.namespace.cluster.delete(f"{pods}/{name}?gracePeriodSeconds=0")
    while not (await bench.store.queues(["vanish"]))["vanish"].waiting:
        if time.perf_counter() - began > _GIVE_UP:
            break
        await asyncio.sleep(0.002)
    seconds = time.perf_counter() - began
    for job in (await bench.store.claim("other", ["vanish"], 9, 60.0)).jobs:
        await bench.store.complete("other", (job.held, {}))
    return seconds


def million() -> list[Row]:
    """A million jobs on a day's curve through the real decision code."""
    rng = np.random.default_rng(1)
    jobs = 1_000_000
    workload = Workload("million", arrivals.day(jobs, DAY, rng), arrivals.service_times(jobs, 0.4, 0.5, rng), DAY)
    target = _target(600.0, 0.4)
    began = time.perf_counter()
    outcome = Simulation(workload, ClusterModel(), Ours(target, rest=1.0)).run()
    seconds = time.perf_counter() - began
    assert len(outcome.waits) == jobs
    return [row("simulation of 1,000,000 jobs", "s", seconds, at_most=60.0)]


def costs() -> list[Row]:
    """A full day, one of little work, and bursts, three seeds each: cost over the bound and over other policies."""
    rows = []
    for kind in ("day", "light day", "bursts"):
        found = [_compared(kind, seed) for seed in (1, 2, 3)]
        if kind != "light day":  # of which the bound says nothing: fractions of a replica would do
            bound = float(np.mean([each.rows[0].node_hours / (each.optimum or np.nan) for each in found]))
            rows.append(row(f"cost, {kind}: over the clairvoyant bound at equal p99 wait", "x", bound, at_most=1.25))
        default = [_over(each, tuned=False) for each in found]
        rows.append(row(f"cost, {kind}: over KEDA + HPA, its defaults", "x", float(np.mean(default)), at_most=1.0))
        tuned = [_over(each, tuned=True) for each in found]
        name = f"cost, {kind}: over the cheapest other, its setting searched with hindsight for our wait"
        rows.append(row(name, "x", float(np.mean(tuned)), at_most=1.0))
    return rows


def _compared(kind: str, seed: int) -> Comparison:
    rng = np.random.default_rng(seed)
    jobs = 1_000 if kind == "light day" else 30_000
    make: Any = arrivals.bursts if kind == "bursts" else arrivals.day
    workload = Workload(kind, make(jobs, DAY, rng), arrivals.service_times(jobs, 13.3, 0.5, rng), DAY)
    return compare(workload, ClusterModel(), _target(1800.0, 13.3), rest=1.0, seed=seed)


def _target(wait: float, service: float) -> Target:
    return Target(
        name="simulated",
        max_replicas=200,
        max_wait=wait,
        gather_seconds=max(0.0, wait - ClusterModel().cold - 130.0),
        start_seconds=ClusterModel().cold,
        service_seconds=service,
        cooldown=60.0,
        stabilisation_window=60.0,
    )


def _over(found: Comparison, *, tuned: bool) -> float:
    """Return our cost over KEDA's with defaults, or over the cheapest whose jobs wait no longer than ours."""
    ours = found.rows[0].money
    if not tuned:
        return ours / next(row.money for row in found.rows if row.name.startswith("KEDA + HPA, list"))
    limit = found.ours.wait(99)
    return ours / min(r.money for r in found.rows[1:] if r.outcome is not None and r.outcome.wait(99) <= limit)


REAL = {"reaction": reaction, "load": load, "vanished": vanished}
SIMULATED = {"million": million, "costs": costs}


async def measured(only: Sequence[str]) -> list[Row]:
    """Run the parts that need real servers."""
    rows: list[Row] = []
    async with surroundings() as bench:
        if bench is None:
            print("No KIOSK_TEST_CONTROL_PLANE: the figures of the real API server are left out.", file=sys.stderr)
            return rows
        for name in only:
            rows += await REAL[name](bench)
    return rows


def main() -> None:
    """Measure what is asked for and print it."""
    only = options(__doc__, [*REAL, *SIMULATED]).only
    real = [name for name in only if name in REAL]
    rows = asyncio.run(measured(real)) if real else []
    for name in only:
        rows += SIMULATED[name]() if name in SIMULATED else []
    tell(rows)


if __name__ == "__main__":
    main()
