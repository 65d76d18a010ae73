"""The job engine beside SAQ, streaq, taskiq, dramatiq and arq, all in one run on one Redis.

    python -m benchmarks.engine [--json FILE] [--jobs PERCENT] [--backlog JOBS] [--only PART[,PART]]

Parts: throughput, submit, latency, memory, delay, backlog. The peers' environments are made once, in
``KIOSK_BENCHMARK_CACHE`` (default ``~/.cache/cellkiosk/benchmarks``). Leases, fencing and write-once facts are on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.engine_runs import ENGINES, Bench, Engine, Throughput
from benchmarks.report import Row, keep, row, tell
from shared.jobs import JobStore, NewJob, open_store
from shared.jobs.model import new_id
from tests.fixtures.redis import RedisServer

OURS, PEERS = ENGINES[0], ENGINES[1:]
BARE = Engine("bare notify-then-claim", "bare.py")
DELAY = 0.001  # s each way


def main() -> None:
    """Run the parts that were asked for and tell their rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--jobs", type=int, default=100, help="percent of the usual number of jobs")
    parser.add_argument("--backlog", type=int, default=1_000_000)
    parser.add_argument("--only", default=",".join(PARTS))
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, _redis(Path(folder)) as server:
        assert server.process is not None
        bench = Bench(server.url, server.process.pid)
        for part in options.only.split(","):
            found = PARTS[part](bench, server, options)
            tell(found, [])
            rows += found
            keep(rows, options.json)
    sys.stdout.write("\n")
    tell(rows, [])


@contextlib.contextmanager
def _redis(folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(folder).start()
    try:
        yield server
    finally:
        server.stop(kill=True)


def throughput(bench: Bench, _server: RedisServer, options: argparse.Namespace) -> list[Row]:
    """No-op jobs/s with 1 and 4 worker processes, and what a job costs."""
    return [each for workers in (1, 4) for each in _throughput(bench, workers, options)]


def _throughput(bench: Bench, workers: int, options: argparse.Namespace, where: str = "") -> list[Row]:
    of = {engine.name: _run(bench, engine, workers, options) for engine in ENGINES}
    ours, unit = of.pop(OURS.name), f"{workers} worker{'s' if workers > 1 else ''}{where}"
    assert ours is not None
    rows = []
    for name, peer in of.items():
        if peer is None:
            continue
        rows.append(row(f"no-op jobs, {unit}", "jobs/s", ours.rate, peer=name, peer_value=peer.rate, at_least=3))
        rows += _costs(unit, name, ours, peer)
    return rows


def _run(bench: Bench, engine: Engine, workers: int, options: argparse.Namespace) -> Throughput | None:
    try:
        return bench.throughput(engine, workers, max(1000, engine.jobs * options.jobs // 100))
    except (TimeoutError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"{engine.name} with {workers} workers: {error}\n")
        return None


def _costs(unit: str, name: str, ours: Throughput, peer: Throughput) -> list[Row]:
    both, peers = ours.worker_cpu + ours.redis_cpu, peer.worker_cpu + peer.redis_cpu
    return [
        row(f"CPU of workers and Redis, {unit}", "s/1000 jobs", both, peer=name, peer_value=peers),
        row(f"CPU of Redis, {unit}", "s/1000 jobs", ours.redis_cpu, peer=name, peer_value=peer.redis_cpu),
        row(f"Redis commands, {unit}", "per job", ours.commands, peer=name, peer_value=peer.commands),
        row(f"bytes to and from Redis, {unit}", "per job", ours.bytes, peer=name, peer_value=peer.bytes),
    ]


def submit(bench: Bench, _server: RedisServer, options: argparse.Namespace) -> list[Row]:
    """Submitted jobs/s by one process: one at a time, and as many at once as the engine allows."""
    return _submits(bench, {"single": 2_000, "bulk": 20_000}, options.jobs)


def _submits(bench: Bench, counts: dict[str, int], percent: int, where: str = "") -> list[Row]:
    rows = []
    for how, count in counts.items():
        rates = {}
        for engine in ENGINES:
            bench.redis.flushall()
            number = count if engine.bulk or how == "single" else counts["single"]
            rates[engine.name] = bench.submit(engine, max(200, number * percent // 100), how)
        ours = rates.pop(OURS.name)
        rows += [
            row(f"submit, {how}{where}", "jobs/s", ours, peer=name, peer_value=rate) for name, rate in rates.items()
        ]
    return rows


def latency(bench: Bench, _server: RedisServer, options: argparse.Namespace) -> list[Row]:
    """Time from the call of submit to the job's first line, on an idle system."""
    count = max(100, 500 * options.jobs // 100)
    of = {engine.name: bench.latencies(engine, count, 0.02) for engine in (*ENGINES, BARE)}
    ours = of.pop(OURS.name)
    rows = [
        row("submit to start, p50", "ms", _ms(ours, 0.5), at_most=5),
        row("submit to start, p99", "ms", _ms(ours, 0.99), at_most=50),
    ]
    bounds = {"SAQ": 1.0, BARE.name: 1.5}
    for name, peer in of.items():
        half = {"peer": name, "peer_value": _ms(peer, 0.5)}
        rows.append(row("submit to start, p50", "ms", _ms(ours, 0.5), **half, at_most=bounds.get(name)))  # type: ignore[arg-type]
        rows.append(row("submit to start, p99", "ms", _ms(ours, 0.99), peer=name, peer_value=_ms(peer, 0.99)))
    return rows


def _ms(seconds: list[float], share: float) -> float:
    return 1000 * seconds[min(len(seconds) - 1, int(share * len(seconds)))]


def memory(bench: Bench, _server: RedisServer, _options: argparse.Namespace) -> list[Row]:
    """Redis memory of a waiting no-op job."""
    count = 10_000
    ours, fields = bench.memory_per_job(OURS, count)
    rows = [row("memory of a waiting job beyond its own fields", "bytes", ours - fields, at_most=1024)]
    for engine in PEERS:
        used, _ = bench.memory_per_job(engine, count)
        rows.append(row("memory of a waiting job", "bytes", ours, peer=engine.name, peer_value=used))
    return rows


def delay(bench: Bench, server: RedisServer, options: argparse.Namespace) -> list[Row]:
    """The same behind a relay that adds 1 ms each way: no-op jobs/s, submitting, and submit to start."""
    where = ", 2 ms away"
    command = [sys.executable, "-m", "tests.fixtures.relay", str(server.port), str(DELAY)]
    relay = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert relay.stdout is not None
        far = Bench(server.url, bench.server_pid, f"redis://127.0.0.1:{int(relay.stdout.readline())}/0")
        rows = [each for workers in (1, 4) for each in _throughput(far, workers, options, where)]
        rows += _submits(far, {"single": 500, "bulk": 10_000}, options.jobs, where)
        rows += _far_latencies(far, max(50, 200 * options.jobs // 100), where)
    finally:
        relay.terminate()
        relay.wait(10)
    return rows


def _far_latencies(far: Bench, count: int, where: str) -> list[Row]:
    of = {engine.name: far.latencies(engine, count, 0.02) for engine in (OURS, *PEERS[:1], BARE)}
    ours = of.pop(OURS.name)
    return [
        row(f"submit to start, {name}{where}", "ms", _ms(ours, share), peer=peer, peer_value=_ms(times, share))
        for peer, times in of.items()
        for name, share in (("p50", 0.5), ("p99", 0.99))
    ]


def backlog(bench: Bench, server: RedisServer, options: argparse.Namespace) -> list[Row]:
    """Claimed jobs/s from a short and from a long queue."""
    return [asyncio.run(_backlogs(bench, server.url, options.backlog))]


async def _backlogs(bench: Bench, url: str, many: int) -> Row:
    """Claim from both queues in turn, so that whatever else the machine does meanwhile befalls both."""
    bench.redis.flushall()
    sizes = {"{short}:": 1_000, "{long}:": many}
    stores = {prefix: open_store(url, prefix) for prefix in sizes}
    samples: dict[str, list[float]] = {prefix: [] for prefix in sizes}
    for number in range(41):
        for prefix, store in stores.items():
            await _fill(store, sizes[prefix])
            began = time.perf_counter()
            for _ in range(10):
                await store.claim(f"w{number}", ["noop"], 50, 60)
            samples[prefix].append(500 / (time.perf_counter() - began))
    for store in stores.values():
        await store.aclose()
    bench.redis.flushall()
    short, long = (statistics.median(samples[prefix]) for prefix in sizes)
    name = "backlog of 1,000"
    return row(f"claimed jobs, backlog of {many:,}", "jobs/s", long, peer=name, peer_value=short, at_least=0.9)


async def _fill(store: JobStore, size: int) -> None:
    while (waiting := (await store.queues(["noop"]))["noop"].waiting) < size:
        number = min(5_000, size - waiting)
        await store.submit(*(NewJob(new_id("noop"), {"sent": "0.0"}) for _ in range(number)))


PARTS = {
    "throughput": throughput,
    "submit": submit,
    "latency": latency,
    "memory": memory,
    "delay": delay,
    "backlog": backlog,
}

if __name__ == "__main__":
    main()
