"""The processes of a chaos run, and everything that may happen to them."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from shared.errors import Retry
from shared.jobs import JobStore
from shared.jobs.connection import AWAY, RedisError, connect
from shared.storage import open_storage
from tests.chaos import work
from tests.chaos.client import OFFERED
from tests.fixtures.redis import RedisServer, free_port
from tests.fixtures.relay import Relay

#: A server that starts worker processes by forking: what they import is imported once.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.chaos.work"])

#: Bytes of the diary (ten lines) that come between two faults, and s after which the next one comes all the same.
_LINES, _PATIENCE = 700, 5.0


@dataclass(frozen=True)
class Service:
    """A service's process, and the Redis that it was told of."""

    name: str
    redis: str
    process: subprocess.Popen[bytes]


class Suite:
    """Redis (AOF, every write on disk), a relay that can cut, and processes that are started again when dead.

    The frontend and the workers reach Redis through the relay; the janitors directly, as from another machine.
    """

    def __init__(self, folder: Path, workers: int = 4, janitors: int = 2, lease: float = 2.0) -> None:
        self.folder, self.lease = folder, lease
        self.server = RedisServer(folder / "redis", "--appendonly", "yes", "--appendfsync", "always")
        self.relay = Relay(self.server.port)
        self.diary, self._shaky = folder / "diary", folder / "shaky"
        self.storage = open_storage(f"file://{folder}/storage")
        self.port = free_port()
        self.happened: Counter[str] = Counter()
        self.everything_happened = asyncio.Event()
        self.killed: list[tuple[str, float]] = []
        self.workers: dict[str, BaseProcess] = {}
        self.services: list[Service] = []
        self._numbers = (workers, janitors)
        self._worker_number = 0
        self._over = asyncio.Event()
        self.store: JobStore

    async def __aenter__(self) -> Suite:
        await asyncio.to_thread(self.server.start)
        await self.relay.start()
        self.store = JobStore(connect(self.server.url), work.PREFIX)
        for _ in range(self._numbers[0]):
            self._start_worker()
        direct, cut = self.server.url, f"redis://127.0.0.1:{self.relay.port}/0"
        self.services = [self._service("janitor", direct) for _ in range(self._numbers[1])]
        self.services.append(self._service("frontend", cut))
        await self.store.announce(*OFFERED)
        self._supervisor = asyncio.create_task(self._supervise())
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._over.set()
        await self._supervisor
        for worker in self.workers.values():
            _signal(worker.pid, signal.SIGCONT)
            worker.kill()
        for service in self.services:
            service.process.kill()
        await asyncio.to_thread(lambda: [service.process.wait() for service in self.services])
        for worker in self.workers.values():
            await asyncio.to_thread(worker.join)
            worker.close()
        await self.store.aclose()
        await self.relay.aclose()
        self.server.stop(kill=True)

    @property
    def url(self) -> str:
        """Where the frontend listens, whenever it lives."""
        return f"http://127.0.0.1:{self.port}"

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the run."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()

    # -- what may happen --

    async def kill_worker(self) -> None:
        worker = random.choice(list(self.workers.values()))
        self._kill(worker)

    async def stop_worker_for_longer_than_its_lease(self) -> None:
        name, worker = random.choice(list(self.workers.items()))
        pid = worker.pid
        _signal(pid, signal.SIGSTOP)
        began = time.monotonic()
        while time.monotonic() - began < 1.5 * self.lease or await self._holds(name):
            await self.pause(0.1)
            if time.monotonic() - began > 10 * self.lease:
                break
        if name in self.workers:  # else it died while it was stopped, and another has taken its place
            _signal(pid, signal.SIGCONT)

    async def stop_worker_in_order(self) -> None:
        worker = random.choice(list(self.workers.values()))
        _signal(worker.pid, signal.SIGTERM)

    async def kill_janitor(self) -> None:
        self._random("janitor").kill()

    async def kill_frontend(self) -> None:
        await self._frontend_answers()
        self._random("frontend").kill()

    async def stop_frontend_in_order(self) -> None:
        await self._frontend_answers()
        self._random("frontend").terminate()

    async def storage_in_trouble(self) -> None:
        self._shaky.touch()
        await self.pause(random.uniform(0.5, 2.0))
        self._shaky.unlink()

    async def restart_redis(self) -> None:
        await asyncio.to_thread(self.server.stop, kill=True)
        await self.pause(random.uniform(0, 0.5))
        await asyncio.to_thread(self.server.start)

    async def cut_connections(self) -> None:
        self.relay.cut()

    async def network_away(self) -> None:
        self.relay.refusing = True
        self.relay.cut()
        await self.pause(random.uniform(0.1, 1.0))
        self.relay.refusing = False

    async def notifications_off(self) -> None:
        with contextlib.suppress(*AWAY, RedisError):
            await self.store.redis.config_set("notify-keyspace-events", "")

    async def rage(self, stop: asyncio.Event) -> None:
        """Let things happen at random until told to stop; then let the network stand."""
        chances = {
            self.kill_worker: 6,
            self.stop_worker_for_longer_than_its_lease: 3,
            self.stop_worker_in_order: 2,
            self.kill_janitor: 1,
            self.kill_frontend: 1,
            self.stop_frontend_in_order: 1,
            self.storage_in_trouble: 3,
            self.restart_redis: 1,
            self.cut_connections: 4,
            self.network_away: 1,
            self.notifications_off: 1,
        }
        first = list(chances)  # each happens at least once, however short the run
        while not stop.is_set():
            before = self._noted()
            action = first.pop() if first else random.choices(list(chances), list(chances.values()))[0]
            await action()
            self.happened[action.__name__] += 1
            if not first:
                self.everything_happened.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(random.uniform(0.1, 0.8)):
                    await stop.wait()
            await self._something_was_done(before, stop)

    # -- processes --

    def _noted(self) -> int:
        return self.diary.stat().st_size if self.diary.exists() else 0

    async def _something_was_done(self, before: int, stop: asyncio.Event) -> None:
        """Wait for some notes in the diary, for a while: a busy machine needs longer to mend what was done to it."""
        began = time.monotonic()
        while self._noted() < before + _LINES and not stop.is_set() and time.monotonic() - began < _PATIENCE:
            await self.pause(0.05)

    async def _frontend_answers(self) -> None:
        """Wait until it does: killed before, again and again on a busy machine, it would never take a job."""
        while not self._over.is_set():
            try:
                _reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await self.pause(0.1)
            else:
                writer.close()
                return

    async def _holds(self, worker: str) -> bool:
        with contextlib.suppress(Retry):
            return bool(await self.store.held(worker))
        return True

    def _kill(self, worker: BaseProcess) -> None:
        self.killed.append((worker.name, time.monotonic()))
        worker.kill()

    def _start_worker(self) -> None:
        self._worker_number += 1
        name = f"w{self._worker_number}"
        url = f"redis://127.0.0.1:{self.relay.port}/0"
        process = _FORKS.Process(target=work.run, args=(url, name, str(self.folder), self.lease), name=name)
        process.start()
        self.workers[name] = process

    def _random(self, name: str) -> subprocess.Popen[bytes]:
        return random.choice([service.process for service in self.services if service.name == name])

    def _service(self, name: str, redis: str) -> Service:
        variables = os.environ | {
            "KIOSK_REDIS__URL": redis,
            "KIOSK_REDIS__PREFIX": work.PREFIX,
            "KIOSK_REDIS__RECONCILE": str(self.lease / 2),
            "KIOSK_STORAGE__URL": f"file://{self.folder}/storage",
            "KIOSK_HEALTH__PORT": "0",
            "KIOSK_HEALTH__HOST": "127.0.0.1",
            "KIOSK_TELEMETRY__LOG_LEVEL": "error",
        }
        if name == "frontend":
            variables |= {"KIOSK_PORT": str(self.port), "KIOSK_JOBS__MAX_ATTEMPTS": "100", "KIOSK_GRACE": "1"}
        command = [sys.executable, "-m", "tests.chaos.trouble", str(self._shaky), name]
        with (self.folder / f"{name}.log").open("ab") as log:
            return Service(name, redis, subprocess.Popen(command, env=variables, stdout=log, stderr=log))

    async def _supervise(self) -> None:
        while not self._over.is_set():
            for name, worker in list(self.workers.items()):
                if not worker.is_alive():
                    if worker.exitcode == -signal.SIGKILL and name not in dict(self.killed):
                        self.killed.append((name, time.monotonic()))  # by its own job
                        self.happened["killed by its job"] += 1
                    worker.close()
                    del self.workers[name]
                    self._start_worker()
            for number, service in enumerate(self.services):
                if service.process.poll() is not None:
                    self.services[number] = self._service(service.name, service.redis)
            await self.pause(0.05)


def _signal(pid: int | None, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        if pid is not None:
            os.kill(pid, number)
