"""One part of the suite: a process that is started, watched, started again when it dies, and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import Misconfigured

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

#: Exit code of a service whose settings are wrong: trying again cannot help.
MISCONFIGURED = 2
#: A log file larger than this (bytes) is put aside; one older is kept.
LARGEST_LOG = 20_000_000


@dataclass(frozen=True)
class Part:
    """What is started, and how one sees that it works.

    Attributes:
        name: its name for people and of its log file.
        command: program and arguments.
        environment: all of its environment variables.
        problem: returns "" once it works, else a sentence that says what is missing.
        ports: where it listens, by purpose.
        grace: seconds between SIGTERM and SIGKILL.
        stage: parts of a lower stage are started earlier, and stopped later.
        folder: its working directory; None: that of the supervisor.
    """

    name: str
    command: tuple[str, ...]
    problem: Callable[[], Awaitable[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    grace: float = 20.0
    stage: int = 1
    folder: Path | None = None


@dataclass(frozen=True)
class Pace:
    """Pauses (s) before a part that died is started again; they double, and begin anew after a long life."""

    first: float = 0.5
    longest: float = 30.0
    settled: float = 60.0
    tries: int = 3
    """Deaths before it was ever ready, after which the start has failed."""


class Keeper:
    """Keeps one part alive.

    Attributes:
        ready: set once the part works; cleared when it dies.
        failed: the sentence that says why it cannot be started; "" while there is hope.
        deaths: how often it died.
    """

    def __init__(self, part: Part, log: Path, report: Callable[[str], None], pace: Pace | None = None) -> None:
        """Prepare; nothing is started yet."""
        self.part = part
        self.log = log
        self.ready = asyncio.Event()
        self.failed = ""
        self.deaths = 0
        self.last_problem = ""
        self._report = report
        self._pace = pace or Pace()
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._was_ready = False

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def run(self) -> None:
        """Start the part again and again until it is stopped or cannot be started."""
        pause = self._pace.first
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._live()
            if self._stopping.is_set():
                return
            self.deaths += 1
            if self._hopeless(code):
                return
            if time.monotonic() - began > self._pace.settled:
                pause = self._pace.first
            self._report(f"{self.part.name} {how(code)}; starting it again in {pause:g} s ({self.log})")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            pause = min(2 * pause, self._pace.longest)

    async def stop(self) -> None:
        """Ask the part to end, wait for its grace, and end whatever of it is left."""
        self._stopping.set()
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.part.grace):
                    await process.wait()
        self.kill()
        await process.wait()

    def kill(self) -> None:
        """End the part and all that it started, at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def tail(self, lines: int = 12) -> list[str]:
        """Return the last lines that the part wrote."""
        return tail(self.log, lines)

    def trim_log(self) -> None:
        """Put the log aside when it has grown large; the part goes on writing, since it only ever appends."""
        with contextlib.suppress(OSError):
            if self.log.stat().st_size > LARGEST_LOG:
                shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
                os.truncate(self.log, 0)

    async def _live(self) -> int:
        """Start the process, watch it become ready, and wait for its end; returns its exit code."""
        with self.log.open("ab") as out:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self.part.command,
                    env=dict(self.part.environment) or None,
                    cwd=self.part.folder,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    preexec_fn=_tie_to(os.getpid()),
                )
            except OSError as error:
                raise Misconfigured(f"{self.part.command[0]} cannot be started: {error.strerror}.") from error
        if self._stopping.is_set():  # told while it was being started
            self._process.terminate()
        watching = asyncio.create_task(self._watch(), name=f"watch-{self.part.name}")
        try:
            return await self._process.wait()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            self.ready.clear()
            self.kill()  # what it started and left behind

    async def _watch(self) -> None:
        """Ask whether it works, often at first, until it does."""
        pause = 0.02
        while True:
            self.last_problem = await self.part.problem()
            if not self.last_problem:
                if self._was_ready:
                    self._report(f"{self.part.name} works again")
                self._was_ready = True
                self.ready.set()
                return
            await asyncio.sleep(pause)
            pause = min(pause * 1.3, 0.25)

    def _hopeless(self, code: int) -> bool:
        if code == MISCONFIGURED or (not self._was_ready and self.deaths >= self._pace.tries):
            self.failed = f"{self.part.name} cannot be started: it {how(code)}"
            return True
        return False


def how(code: int) -> str:
    """Return how a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}"


def tail(log: Path, lines: int) -> list[str]:
    """Return the last lines of a file, reading only its end."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 400 * lines))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []


def _tie_to(parent: int) -> Callable[[], None] | None:
    """Make the child get SIGTERM when the supervisor dies, however it dies; only Linux can."""
    libc = _LIBC
    if libc is None:
        return None

    def tie() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the tie was made
            os._exit(1)

    return tie
