"""The logs of a cluster's pods, through kubectl, as pods come and go."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import sys
from collections.abc import Sequence
from typing import Any

from services.console import kubectl
from services.console.logs.lines import Wish, read
from services.console.logs.sources import Show
from shared.errors import InvalidInput, KioskError, Retry
from shared.lifecycle import ended

#: s between two looks at the list of pods.
_LOOK = 3.0


class PodLogs:
    """Reads the logs of all pods of some parts; a pod that cannot be read is told once and holds up no other.

    Args:
        services: parts of the chart; none for all.
        wish: which lines are wanted.
        count: lines to begin with, of each pod.
        show: takes the lines.
        begin: kubectl with namespace and context.
    """

    def __init__(self, services: Sequence[str], wish: Wish, count: int, show: Show, begin: Sequence[str]) -> None:
        self._services = services
        self._wish = wish
        self._count = count
        self._show = show
        self._begin = begin
        self._readers: dict[str, asyncio.Task[str]] = {}
        self._ended: dict[str, dt.datetime] = {}
        self._told: set[str] = set()

    async def once(self) -> None:
        """Show what is there.

        Raises:
            Retry: the cluster does not answer, or no pod could be read.
            InvalidInput: no pod has these parts.
        """
        pods = await self._first()
        problems = await asyncio.gather(*(self._read(pod, part, [f"--tail={self._count}"]) for pod, part in pods))
        if all(problems):
            raise Retry(f"The logs of the pods cannot be read: {problems[0]}")
        for problem in filter(None, problems):
            self._complain(problem)

    async def follow(self) -> None:
        """Show what is there and what comes, of pods that come later too; until cancelled.

        Raises:
            Retry: the cluster did not answer at first.
            InvalidInput: no pod has these parts.
        """
        found = await self._first()
        since = f"--tail={self._count}"
        try:
            while True:
                for pod, part in found:
                    self._start(pod, part, since)
                since = "--tail=-1"
                await asyncio.sleep(_LOOK)
                try:
                    found = await self._running()
                except KioskError as error:
                    self._complain(str(error))
        finally:
            await ended(*self._readers.values())

    def _start(self, pod: str, part: str, since: str) -> None:
        """Read a pod; one that was read before goes on where its log ended, as after a restart of its container."""
        reader = self._readers.get(pod)
        if reader is not None:
            if not reader.done():
                return
            if problem := reader.result():
                self._complain(problem)
            since = f"--since-time={self._ended[pod].isoformat(timespec='seconds')}"
        self._readers[pod] = asyncio.create_task(self._read(pod, part, [since, "--follow"]), name=pod)

    async def _first(self) -> list[tuple[str, str]]:
        if found := await self._running():
            return found
        raise InvalidInput(f"There is no pod of {', '.join(self._services) or 'CellKiosk'} in this namespace.")

    async def _running(self) -> list[tuple[str, str]]:
        selector = kubectl.SELECTOR
        if self._services:
            selector += f",{kubectl.COMPONENT} in ({','.join(self._services)})"
        listed: Any = await asyncio.to_thread(kubectl.read, "get", "pods", "--selector", selector, begin=self._begin)
        return [
            (item["metadata"]["name"], item["metadata"].get("labels", {}).get(kubectl.COMPONENT, ""))
            for item in listed["items"]
            if item.get("status", {}).get("phase") in ("Running", "Succeeded", "Failed")
        ]

    async def _read(self, pod: str, part: str, how: Sequence[str]) -> str:
        """Show a pod's lines until its log ends; return why it could not be read, or an empty text."""
        process = await asyncio.create_subprocess_exec(
            *(*self._begin, "logs", pod, "--all-containers", *how),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=2**20,
        )
        assert process.stdout
        assert process.stderr
        words = asyncio.create_task(process.stderr.read())
        try:
            async for raw in process.stdout:
                line = read(part, raw.decode(errors="replace"))
                if self._wish.wants(line):
                    self._show(line)
            code = await process.wait()
        finally:
            self._ended[pod] = dt.datetime.now(dt.UTC)
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            said = kubectl.sentence((await words).decode(errors="replace").splitlines())
        return f"{pod}: {said or 'kubectl failed'}" if code else ""

    def _complain(self, problem: str) -> None:
        if problem not in self._told:
            sys.stderr.write(f"{problem}\n")
            self._told.add(problem)
