"""Starts the parts of the suite in order, keeps them alive, and stops them in the opposite order."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from services.console.up.keeper import Keeper, Pace, Part
from shared.errors import Misconfigured

#: Seconds between two looks at the size of the logs.
_TRIM_EVERY = 60.0
#: Seconds of the start after which it is said what is still missing, and again after as many.
_PATIENCE = 20.0


class Supervisor:
    """All parts of one suite.

    Attributes:
        stopping: set by whoever wants it to stop.
        hurry: set by whoever cannot wait for running jobs.
    """

    def __init__(
        self, parts: Sequence[Part], logs: Path, report: Callable[[str], None], pace: Pace | None = None
    ) -> None:
        """Prepare; nothing is started yet."""
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()
        self.keepers = [Keeper(part, logs / f"{part.name}.log", report, pace) for part in parts]
        self._report = report
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def listen(self) -> None:
        """Stop at SIGINT and SIGTERM; at the second one, at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._asked)

    def _asked(self) -> None:
        if self.stopping.is_set():
            self.hurry.set()
        self.stopping.set()

    async def run(self, seconds: float, ready: Callable[[], None]) -> int:
        """Start everything, call ``ready``, work until told to stop, and stop everything.

        Args:
            seconds: that the start may take.
            ready: called once, when every part works.

        Returns:
            0 after a stop that was asked for, 1 when a part could not be started or kept.
        """
        trimming = asyncio.create_task(self._trim_logs(), name="trim-logs")
        try:
            if not await self._start(seconds):
                return 1
            if not self.stopping.is_set():
                ready()
            return await self._watch()
        finally:
            trimming.cancel()
            await self._stop()

    async def _start(self, seconds: float) -> bool:
        """Start the stages one after another; return whether all parts work, or nobody wants them any more."""
        deadline = time.monotonic() + seconds
        for _stage, group in itertools.groupby(sorted(self.keepers, key=_stage_of), key=_stage_of):
            keepers = list(group)
            for keeper in keepers:
                self._tasks[keeper.part.name] = asyncio.create_task(keeper.run(), name=keeper.part.name)
            if not await self._until_ready(keepers, deadline):
                return False
            if self.stopping.is_set():
                return True
        return True

    async def _until_ready(self, keepers: Sequence[Keeper], deadline: float) -> bool:
        began, patience = time.monotonic(), _PATIENCE
        waits: dict[asyncio.Task[Any], Keeper] = {asyncio.create_task(k.ready.wait()): k for k in keepers}
        stop = asyncio.create_task(self.stopping.wait())
        try:
            while waits and not self.stopping.is_set() and time.monotonic() < deadline:
                tasks = [self._tasks[keeper.part.name] for keeper in waits.values()]
                limit = max(0.0, min(deadline, began + patience) - time.monotonic())
                done, _ = await asyncio.wait([*waits, *tasks, stop], timeout=limit, return_when=asyncio.FIRST_COMPLETED)
                for task in done & waits.keys():
                    self._report(f"  {waits.pop(task).part.name:<11} works after {time.monotonic() - began:.1f} s")
                if self._lost():
                    return False
                if not done:
                    patience += _PATIENCE
                    for keeper in waits.values():
                        self._report(f"  {keeper.part.name:<11} not yet: {keeper.last_problem or 'starting'}")
            if waits and not self.stopping.is_set():
                self._explain_late(list(waits.values()))
                return False
            return True
        finally:
            for task in (*waits, stop):
                task.cancel()

    def _lost(self) -> bool:
        """Say which parts cannot be started, with the end of their logs; return whether there are any."""
        lost = False
        for keeper in self.keepers:
            task = self._tasks.get(keeper.part.name)
            if task is None or not task.done() or self.stopping.is_set():
                continue
            lost = True
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, Misconfigured):
                raise error
            self._report(str(error) if error else f"{keeper.failed}. Its last words ({keeper.log}):")
            for line in [] if error else keeper.tail():
                self._report(f"    {line}")
        return lost

    def _explain_late(self, keepers: Sequence[Keeper]) -> None:
        for keeper in keepers:
            problem = keeper.last_problem or "it does not answer"
            self._report(f"{keeper.part.name} did not begin to work in time: {problem}. Its last words ({keeper.log}):")
            for line in keeper.tail():
                self._report(f"    {line}")

    async def _watch(self) -> int:
        """Wait until told to stop; a part that can never be started again ends the suite."""
        stop = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait([stop, *self._tasks.values()], return_when=asyncio.FIRST_COMPLETED)
            return 0 if self.stopping.is_set() else int(self._lost())
        finally:
            stop.cancel()

    async def _stop(self) -> None:
        """Stop the stages, the last one first, each part within its grace."""
        self.stopping.set()
        hurrying = asyncio.create_task(self._kill_when_hurried(), name="hurry")
        for _stage, group in itertools.groupby(sorted(self.keepers, key=_stage_of, reverse=True), key=_stage_of):
            keepers = list(group)
            await asyncio.gather(*(keeper.stop() for keeper in keepers))
            await asyncio.gather(
                *(self._tasks[k.part.name] for k in keepers if k.part.name in self._tasks), return_exceptions=True
            )
        hurrying.cancel()

    async def _kill_when_hurried(self) -> None:
        await self.hurry.wait()
        for keeper in self.keepers:
            if keeper.part.stage:  # the store of the jobs is always let finish: it takes no time
                keeper.kill()

    async def _trim_logs(self) -> None:
        while True:
            for keeper in self.keepers:
                keeper.trim_log()
            await asyncio.sleep(_TRIM_EVERY)


def _stage_of(keeper: Keeper) -> int:
    return keeper.part.stage


def say(sentence: str) -> None:
    """Print a line at once, wherever the output goes."""
    sys.stdout.write(sentence + "\n")
    sys.stdout.flush()
