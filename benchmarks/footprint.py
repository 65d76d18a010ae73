"""What the control plane costs when idle, and how fast each service starts: ``python -m benchmarks.footprint``.

Starts Redis, frontend, janitor and autoscaler (local, no target's worker) from the tree, one after the other, and at
the end a consumer, with the models in process, which are loaded when the first job needs them.
What metrics and traces cost is measured by ``python -m benchmarks.telemetry``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks.report import Row, row, tell
from tests.fixtures.redis import RedisServer, free_port

ROOT = Path(__file__).resolve().parents[1]
SERVICES = ("frontend", "janitor", "autoscaler")
IDLE_SECONDS = 15.0


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder))
    tell(rows)


def measure(folder: Path) -> list[Row]:
    redis = RedisServer(folder / "redis", "--appendonly", "yes").start()
    assert redis.process is not None
    processes = {"redis": redis.process}
    rows = []
    try:
        for service in SERVICES:
            processes[service], seconds = start(service, folder, redis.url)
            rows.append(row(f"{service} start to ready", "s", seconds, at_most=1.5))
        before = {name: cpu(each.pid) for name, each in processes.items()}
        time.sleep(IDLE_SECONDS)
        used = sum(cpu(each.pid) - before[name] for name, each in processes.items())
        rows.append(row("idle memory, all four", "MB", sum(rss(each.pid) for each in processes.values()), at_most=350))
        rows.append(row("idle CPU, all four", "%", 100 * used / IDLE_SECONDS, at_most=2))
        processes["consumer"], seconds = start("consumer", folder, redis.url)
        rows.append(row("consumer start to ready", "s", seconds, at_most=3))
    finally:
        for each in reversed(processes.values()):
            each.send_signal(signal.SIGTERM)
            each.wait(30)
    return rows


def start(service: str, folder: Path, url: str) -> tuple[subprocess.Popen[bytes], float]:
    """Start a service; return it and the seconds until its readiness."""
    port = free_port()
    own = {
        "KIOSK_REDIS__URL": url,
        "KIOSK_STORAGE__URL": f"file://{folder}/storage",
        "KIOSK_HEALTH__PORT": str(port),
        "KIOSK_PORT": str(free_port()),
        "KIOSK_MODEL_SERVER__URL": f"onnx://{ROOT / 'services' / 'triton' / 'models'}",
        "KIOSK_SCRATCH": str(folder / "scratch"),
        "KIOSK_SCALER": "local",
        "KIOSK_TARGETS": '[{"name": "none", "max_replicas": 0}]',
    }
    begin = time.perf_counter()
    with (folder / f"{service}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"services.{service}"], cwd=ROOT, env={**os.environ, **own}, stdout=log, stderr=log
        )
    while process.poll() is None and time.perf_counter() < begin + 60:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return process, time.perf_counter() - begin
        time.sleep(0.01)
    raise SystemExit(f"{service} did not become ready:\n{(folder / f'{service}.log').read_text()[-2000:]}")


def rss(pid: int) -> float:
    """Resident memory of a process, MB."""
    words = Path(f"/proc/{pid}/statm").read_text().split()
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu(pid: int) -> float:
    """CPU seconds of a process so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
