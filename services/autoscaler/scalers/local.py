"""Worker processes on this machine: what `kiosk up` scales.

Each replica is a child with this process's environment, its own KIOSK_NAME and a free side port; its output goes to
this process's. One that dies is started again after a growing pause.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from services.autoscaler import metrics
from services.autoscaler.decide import Decision, Fleet, Member
from services.autoscaler.settings import LocalSettings
from services.autoscaler.targets import Target
from shared.errors import Retry
from shared.jobs import JobStore

log = structlog.get_logger(__name__)

#: s that a process must live for its last death to be no longer worth telling.
_ALIVE = 5.0


@dataclass
class _Replica:
    """One worker: kept alive by its task until it is told to stop."""

    name: str
    created: float = field(default_factory=time.time)
    stopping: bool = False
    told: bool = False
    process: asyncio.subprocess.Process | None = None
    problem: str = ""
    began: float = 0.0
    task: asyncio.Task[None] | None = None

    def trouble(self) -> str:
        """Return why it died last, until its next life has lasted for a moment."""
        return "" if self.process is not None and time.monotonic() - self.began > _ALIVE else self.problem

    def stop(self) -> None:
        """Tell it to end; once only, since a second signal could find it without its handler."""
        self.stopping = True
        if self.told:
            return
        if self.process is not None and self.process.returncode is None:
            self.told = True
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
        elif self.task is not None:
            self.task.cancel()  # between two lives


class LocalScaler:
    """Starts and ends worker processes."""

    def __init__(self, name: str, store: JobStore, settings: LocalSettings, targets: Sequence[Target]) -> None:
        """Prepare; ``name`` makes the workers' names unique among several scalers."""
        self._name = name
        self._store = store
        self._settings = settings
        self._replicas: dict[str, dict[str, _Replica]] = {}
        self._numbers = itertools.count(1)
        self._changed: Callable[[], None] = lambda: None
        self._least = {target.name: target.min_replicas for target in targets}

    async def run(self, changed: Callable[[], None]) -> None:
        """Only remember whom to tell: each replica has its own task."""
        self._changed = changed
        await asyncio.Event().wait()

    async def acting(self) -> bool:
        """Return True: there is no other on this machine."""
        return True

    async def observe(self, target: Target) -> Fleet:
        """Return the processes of a target."""
        members = tuple(
            Member(r.name, r.stopping, r.process is not None, r.trouble(), created=r.created)
            for r in self._of(target).values()
        )
        return Fleet(sum(not member.stopping for member in members), members)

    async def busy(self, _target: Target, _fleet: Fleet) -> frozenset[str]:
        """Return nobody: whoever is busy here holds a job."""
        return frozenset()

    async def scale(self, target: Target, replicas: int, going: Sequence[str]) -> None:
        """Start what is missing, and tell those named to end."""
        mine = self._of(target)
        for name in going:
            mine[name].stop()
        for _ in range(replicas - sum(not r.stopping for r in mine.values())):
            replica = _Replica(f"{self._name}-{target.name}-{next(self._numbers)}")
            mine[replica.name] = replica
            replica.task = asyncio.create_task(self._keep(target, replica), name=f"keep-{replica.name}")

    async def keep(self, _target: Target, _names: Sequence[str]) -> None:
        """Do nothing: nothing marks a process but the store."""

    async def explain(self, _target: Target, _decision: Decision) -> None:
        """Do nothing: the log line is all there is on one machine."""

    async def check(self) -> None:
        """Raise Retry until the least number of workers of each target has reported to Redis."""
        alive = {worker.id for worker in await self._store.workers() if worker.alive}
        for target, least in self._least.items():
            here = self._replicas.get(target, {})
            if len(alive & here.keys()) < least:
                problem = next((f" ({r.problem})" for r in here.values() if r.problem), "")
                raise Retry(f"The workers of {target!r} have not all started yet{problem}.")

    async def aclose(self, grace: float) -> None:
        """Tell all workers to end, wait for them, and kill those that do not."""
        replicas = [replica for mine in self._replicas.values() for replica in mine.values()]
        for replica in replicas:
            replica.stop()
        tasks = [replica.task for replica in replicas if replica.task is not None]
        if not tasks:
            return
        _done, late = await asyncio.wait(tasks, timeout=grace)
        for replica in replicas:
            if replica.process is not None and replica.process.returncode is None:
                log.warning("replica-killed", replica=replica.name, after=grace)
                replica.process.kill()
        if late:
            await asyncio.wait(late, timeout=5.0)

    def _of(self, target: Target) -> dict[str, _Replica]:
        return self._replicas.setdefault(target.name, {})

    async def _keep(self, target: Target, replica: _Replica) -> None:
        """Run a replica's process, again whenever it dies, until it is told to stop."""
        pause = self._settings.first_pause
        try:
            while not replica.stopping:
                replica.began = time.monotonic()
                code = await self._run(target, replica)
                if replica.stopping:
                    break
                if time.monotonic() - replica.began > self._settings.settled:
                    pause = self._settings.first_pause
                metrics.deaths.labels(target.name).inc()
                log.error("replica-died", replica=replica.name, how=replica.problem, code=code, again_in=pause)
                self._changed()
                await asyncio.sleep(pause)
                pause = min(2 * pause, self._settings.longest_pause)
        finally:
            del self._of(target)[replica.name]
            with contextlib.suppress(Retry):
                await self._store.unretire(replica.name)
            self._changed()

    async def _run(self, target: Target, replica: _Replica) -> int:
        """Run the process once; return its exit code (negative: the signal that ended it)."""
        leash = (sys.executable, "-m", "services.autoscaler.scalers.leash", str(os.getpid()))
        environment = {**os.environ, "KIOSK_NAME": replica.name, "KIOSK_HEALTH__PORT": "0"}
        replica.process = await asyncio.create_subprocess_exec(
            *leash, *self._settings.command, env=environment, stdin=asyncio.subprocess.DEVNULL
        )
        log.info("replica-started", target=target.name, replica=replica.name, pid=replica.process.pid)
        self._changed()
        if replica.stopping:  # told while it was being started
            replica.stop()
        code = await replica.process.wait()
        replica.process = None
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        log.info("replica-ended", target=target.name, replica=replica.name, code=code, asked=replica.stopping)
        replica.problem = f"its process {how}"
        return code
