"""What metrics and traces cost: requests and no-op jobs with them and without; ``python -m benchmarks.telemetry``.

With: every metric counted and scraped, every trace offered to be kept, spans sent to a real collector (rotel). Without:
no collector, and the metrics' methods replaced by nothing. Both run beside each other on one Redis and take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import rotel
from prometheus_client import Counter, Gauge, Histogram, generate_latest

from benchmarks.frontend import PREFIX, Server, rate, send_file
from benchmarks.report import Row, row, tell
from services.consumer.worker import Capacity, Done, Worker
from shared.jobs import Job, JobType, NewJob, Notifications, open_store
from shared.jobs.model import new_id
from shared.settings import TelemetrySettings
from shared.telemetry import configure_logs, configure_traces
from shared.telemetry.counting import LoopCounter, LoopHistogram
from tests.fixtures.redis import RedisServer, free_port

TURNS, JOBS = 12, 15_000
NOOP = "noop"


def without_metrics() -> None:
    """Have all metrics of this process count nothing."""

    def nothing(*_args: object, **_more: object) -> None:
        pass

    for kinds, names in (
        ((Counter, LoopCounter), ("inc",)),
        ((Gauge,), ("inc", "dec", "set")),
        ((Histogram, LoopHistogram), ("observe",)),
    ):
        for kind, name in itertools.product(kinds, names):
            setattr(kind, name, nothing)


@contextlib.contextmanager
def collector(folder: Path) -> Iterator[str]:
    """Run a real collector that takes spans and throws them away; yield its address."""
    ports = free_port(), free_port()
    words = [f"--otlp-http-endpoint=127.0.0.1:{ports[0]}", f"--otlp-grpc-endpoint=127.0.0.1:{ports[1]}"]
    words += ["--exporter=blackhole", f"--pid-file={folder}/rotel.pid"]
    binary = Path(rotel.__file__).with_name("rotel-agent")
    with (folder / "rotel.log").open("wb") as log:
        process = subprocess.Popen([binary, "start", *words], stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{ports[0]}"
    finally:
        process.terminate()
        process.wait(20)


def in_turns(first: list[float], second: list[float]) -> tuple[float, float]:
    """Return the medians of two series that were measured in turns."""
    return statistics.median(first), statistics.median(second)


# -- small requests --


async def requests(url: str, folder: Path, endpoint: str) -> list[Row]:
    """Measure orders and questions on two frontends, one with telemetry and one without."""
    shared = {
        "KIOSK_REDIS__URL": url,
        "KIOSK_REDIS__PREFIX": PREFIX,
        "KIOSK_STORAGE__URL": (folder / "storage").as_uri(),
        "KIOSK_TELEMETRY__LOG_LEVEL": "warning",
    }
    ports, health = (free_port(), free_port()), (free_port(), free_port())
    store = open_store(url, PREFIX)
    await store.announce(JobType("segmentation"))
    servers = [
        Server(
            [sys.executable, *command],
            ports[which],
            {**shared, "KIOSK_PORT": str(ports[which]), "KIOSK_HEALTH__PORT": str(health[which]), **extra},
        )
        for which, (command, extra) in enumerate(
            (
                (["-m", "services.frontend"], {"KIOSK_TELEMETRY__OTLP_ENDPOINT": endpoint}),
                (["-m", "benchmarks.telemetry", "--unwatched", "services.frontend"], {}),
            )
        )
    ]
    try:
        stored = await asyncio.to_thread(send_file, ports[0], "/api/upload", 100_000, form=True)
        order = {"jobType": "segmentation", "imageName": "cells.tif", **stored}
        (job,) = await store.submit(NewJob(new_id("segmentation")))
        asked: dict[str, dict[str, object]] = {
            "/api/predict": dict(order),
            "/api/redis": {"hash": job.id, "key": ["status", "progress", "output_url", "reason", "failures"]},
        }
        rows = []
        for path, body in asked.items():
            watched, unwatched = [], []
            for _ in range(TURNS):
                await asyncio.to_thread(_scrape, health[0])
                watched.append(await rate(ports[0], path, body))
                unwatched.append(await rate(ports[1], path, body))
            ours, without = in_turns(watched[1:], unwatched[1:])  # the first turn warms up
            what = f"{path} with metrics and traces"
            rows.append(row(what, "requests/s", ours, peer="without", peer_value=without, at_least=0.95))
        return rows
    finally:
        await store.aclose()
        for server in servers:
            server.stop()


def _scrape(port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        answer.read()


# -- no-op jobs --


async def work(url: str, endpoint: str, count: int) -> None:
    """Do so many jobs of nothing as a consumer does, and print how many in a second."""
    if not endpoint:
        without_metrics()
    settings = TelemetrySettings(otlp_endpoint=endpoint, log_level="warning")
    configure_logs(settings, "consumer")
    traces = configure_traces(settings, "consumer", "0", "bench")
    gc.freeze()  # as every service does at its start
    store, notifications = open_store(url, PREFIX), Notifications(url, PREFIX)
    listening = asyncio.create_task(notifications.run())
    await notifications.ready()
    times: list[float] = []
    stopping = asyncio.Event()

    async def noop(_job: Job) -> Done:
        times.append(time.perf_counter())
        if len(times) == count:
            stopping.set()
        return Done({})

    await Worker(f"w{os.getpid()}", store, notifications, [NOOP], noop, Capacity(slots=200)).run(stopping, 5)
    if endpoint:
        generate_latest()
    traces.shutdown()
    print((len(times) - 1) / (times[-1] - times[0]))
    listening.cancel()
    await notifications.aclose()
    await store.aclose()


async def jobs(url: str, endpoint: str) -> list[Row]:
    """Measure one worker process with telemetry and one without, in turns."""
    store = open_store(url, PREFIX)
    rates: dict[str, list[float]] = {endpoint: [], "": []}
    for _ in range(TURNS // 2):
        for where, found in rates.items():
            for _ in range(0, JOBS, 5_000):
                await store.submit(*(NewJob(new_id(NOOP)) for _ in range(5_000)))
            command = [sys.executable, "-m", "benchmarks.telemetry", "--work", url, where, str(JOBS)]
            found.append(float(await asyncio.to_thread(subprocess.check_output, command)))
    await store.aclose()
    ours, without = in_turns(rates[endpoint], rates[""])
    what = "no-op jobs with metrics and traces"
    return [row(what, "jobs/s", ours, peer="without", peer_value=without, at_least=0.95)]


async def measure(folder: Path) -> list[Row]:
    """Run both parts."""
    redis = RedisServer(folder / "redis").start()
    try:
        with collector(folder) as endpoint:
            return [*await requests(redis.url, folder, endpoint), *await jobs(redis.url, endpoint)]
    finally:
        redis.stop(kill=True)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--unwatched", help=argparse.SUPPRESS)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.unwatched:
        without_metrics()
        sys.argv[1:] = []
        runpy.run_module(arguments.unwatched, run_name="__main__", alter_sys=True)
    elif arguments.work:
        asyncio.run(work(arguments.work[0], arguments.work[1], int(arguments.work[2])))
    else:
        with tempfile.TemporaryDirectory(prefix="bench-telemetry-") as name:
            tell(asyncio.run(measure(Path(name))))


if __name__ == "__main__":
    main()
