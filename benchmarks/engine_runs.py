"""Runs one engine's programs on one Redis and measures them; see ``engine_programs``."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

from benchmarks.engine_programs import probe

_PROGRAMS = Path(__file__).parent / "engine_programs"
_TICK = os.sysconf("SC_CLK_TCK")
_PATIENCE = 120.0


@dataclass(frozen=True)
class Engine:
    """A job engine: its program, the packages of its own environment, and jobs enough for some seconds of work."""

    name: str
    program: str
    packages: tuple[str, ...] = ()
    jobs: int = 10_000
    bulk: bool = True

    def python(self) -> str:
        """Return the interpreter of the engine's environment, which is made once and kept."""
        if not self.packages:
            return sys.executable
        kept = Path(os.environ.get("KIOSK_BENCHMARK_CACHE", Path.home() / ".cache" / "cellkiosk" / "benchmarks"))
        folder = kept / self.name
        python = folder / "bin" / "python"
        if not (folder / "complete").exists():
            sys.stderr.write(f"making the environment of {self.name} in {folder}\n")
            venv.create(folder, with_pip=True, clear=True)
            subprocess.run([str(python), "-m", "pip", "install", "-q", *self.packages], check=True)
            (folder / "complete").touch()
        return str(python)

    def command(self, *words: str) -> list[str]:
        """Return the command line of one of the engine's programs."""
        return [self.python(), str(_PROGRAMS / self.program), *words]


ENGINES = (
    Engine("CellKiosk", "ours.py", jobs=150_000),
    Engine("SAQ", "saq_program.py", ("saq[redis,hiredis]", "uvloop", "typing_extensions")),
    Engine("streaq", "streaq_program.py", ("streaq", "uvloop"), jobs=20_000),
    Engine("taskiq", "taskiq_program.py", ("taskiq", "taskiq-redis", "hiredis", "uvloop"), jobs=20_000),
    Engine("dramatiq", "dramatiq_program.py", ("dramatiq[redis]", "hiredis"), bulk=False),
    Engine("arq", "arq_program.py", ("arq", "hiredis", "uvloop"), jobs=6_000),
)


@dataclass(frozen=True)
class Throughput:
    """What a run of no-op jobs cost: jobs/s; CPU s in 1,000 jobs of workers and of Redis; commands and bytes a job."""

    rate: float
    worker_cpu: float
    redis_cpu: float
    commands: float
    bytes: float


class Bench:
    """One Redis, and the programs of one engine on it."""

    def __init__(self, url: str, server_pid: int, through: str = "") -> None:
        """Measure on the server at ``url``; programs reach it ``through`` another address if that is given."""
        self.redis = redis.Redis.from_url(url, socket_timeout=None)  # to empty it of a million jobs takes seconds
        self.url = through or url
        self.server_pid = server_pid

    def submit(self, engine: Engine, count: int, how: str) -> float:
        """Submit no-op jobs; return jobs/s."""
        done = subprocess.run(
            engine.command("submit", self.url, str(count), how), check=True, capture_output=True, text=True
        )
        return count / float(done.stdout.split()[-1])

    def memory_per_job(self, engine: Engine, count: int) -> tuple[float, float]:
        """Return bytes of Redis for each waiting job, and bytes of the names and values of its hash (0: none)."""
        self.redis.flushall()
        before = self._data_bytes()
        self.submit(engine, count, "bulk" if engine.bulk else "single")
        used = (self._data_bytes() - before) / count
        key = next(self.redis.scan_iter(match="*job:noop:*", count=1000), None)
        fields = self.redis.hgetall(key) if key and not engine.packages else {}
        return used, float(sum(len(name) + len(value) for name, value in fields.items()))

    def _data_bytes(self) -> int:
        """Return the memory that Redis uses, without what its clients' buffers take just now."""
        memory = self.redis.info("memory")
        return int(memory["used_memory"] - memory["mem_clients_normal"] - memory.get("mem_clients_slaves", 0))

    def throughput(self, engine: Engine, workers: int, jobs: int) -> Throughput:
        """Run waiting no-op jobs with some worker processes; what starting costs is left out."""
        self.redis.flushall()
        self.submit(engine, jobs, "bulk" if engine.bulk else "single")
        with self._working(engine, workers) as (processes, probes):
            start = self._sample(processes, probes, lambda counts: min(counts) > 0 and sum(counts) > 0.05 * jobs)
            end = self._sample(processes, probes, lambda counts: sum(counts) >= jobs)
        count, seconds = end.count - start.count, end.at - start.at
        per_job = (
            end.cpu - start.cpu,
            end.redis_cpu - start.redis_cpu,
            end.commands - start.commands,
            end.bytes - start.bytes,
        )
        worker, server, commands, traffic = (figure / count for figure in per_job)
        return Throughput(count / seconds, worker * 1000, server * 1000, commands, traffic)

    def latencies(self, engine: Engine, count: int, pause: float) -> list[float]:
        """Submit one job at a time to one idle worker; return the seconds until each began, sorted."""
        self.redis.flushall()
        with self._working(engine, 1) as (_processes, probes):
            warm = 20
            subprocess.run(engine.command("pace", self.url, str(count + warm), str(pause)), check=True)
            self._wait(lambda: probe.read(probes[0])[2] >= count + warm)
            return sorted(probe.read(probes[0])[3][warm:])

    @contextlib.contextmanager
    def _working(self, engine: Engine, workers: int) -> Iterator[tuple[list[subprocess.Popen[bytes]], list[Path]]]:
        with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
            probes = [Path(folder) / f"probe{number}" for number in range(workers)]
            for path in probes:
                probe.create(path)
            processes = [
                subprocess.Popen(engine.command("work", self.url, str(path)), stdout=log, stderr=log) for path in probes
            ]
            try:
                yield processes, probes
            except TimeoutError:
                sys.stderr.write((Path(folder) / "log").read_text(errors="replace")[-2000:])
                raise
            finally:
                for process in processes:
                    process.terminate()
                for process in processes:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(10)
                    process.kill()

    def _sample(self, processes: list[subprocess.Popen[bytes]], probes: list[Path], enough) -> _Sample:  # type: ignore[no-untyped-def]
        self._wait(lambda: enough([probe.read(path)[2] for path in probes]))
        read = [probe.read(path) for path in probes]
        stats, clients = self.redis.info("stats"), [_cpu(process.pid) for process in processes]
        return _Sample(
            count=sum(each[2] for each in read),
            at=max(each[1] for each in read),
            cpu=sum(clients),
            redis_cpu=_cpu(self.server_pid),
            commands=stats["total_commands_processed"],
            bytes=stats["total_net_input_bytes"] + stats["total_net_output_bytes"],
        )

    def _wait(self, met) -> None:  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + _PATIENCE
        while not met():
            if time.monotonic() > deadline:
                raise TimeoutError("The engine did not do its jobs in time.")
            time.sleep(0.02)


@dataclass(frozen=True)
class _Sample:
    count: int
    at: float
    cpu: float
    redis_cpu: float
    commands: int
    bytes: int


def _cpu(pid: int) -> float:
    """Return the CPU seconds that a process and its ended children took."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK
