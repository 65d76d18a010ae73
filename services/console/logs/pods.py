"""The logs of a cluster's pods, through kubectl, as pods come and go and their containers start again."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.console import kubectl
from services.console.logs.lines import Line, Wish, read
from services.console.logs.sources import Show
from shared.errors import InvalidInput, KioskError, Retry
from shared.lifecycle import ended

#: s between two looks at the list of pods.
_LOOK = 3.0
#: Lines of a container read back at most where only some of them are wanted.
_FAR = 5_000
#: What ``kubectl logs --timestamps`` puts before each line; always of one length, so that texts can be compared.
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) ?(.*)", re.DOTALL)


@dataclass(frozen=True)
class _Source:
    """One container of a pod, and the part of the chart that it is."""

    pod: str
    container: str
    part: str


class PodLogs:
    """Reads the logs of all pods of some parts; what cannot be read is told once and holds up nothing else.

    Each line is shown once: it is known by the time at which the node took it, and a log that broke off is read on
    from the last of them.

    Args:
        services: parts of the chart; none for all.
        wish: which lines are wanted.
        count: lines to begin with, of all pods together.
        show: takes the lines.
        begin: kubectl with namespace and context.
    """

    def __init__(self, services: Sequence[str], wish: Wish, count: int, show: Show, begin: Sequence[str]) -> None:
        self._services = services
        self._wish = wish
        self._count = count
        self._show = show
        self._begin = begin
        self._readers: dict[_Source, asyncio.Task[str]] = {}
        self._seen: dict[_Source, str] = {}
        self._told: set[str] = set()

    async def once(self) -> None:
        """Show the last lines of what is there, in the order of their times.

        Raises:
            Retry: the cluster does not answer, or no pod could be read.
            InvalidInput: no pod has these parts.
        """
        problems = await self._history(await self._first())
        if problems and all(problems):
            raise Retry(f"The logs of the pods cannot be read: {problems[0]}")

    async def follow(self) -> None:
        """Show the last lines of what is there, then what comes, of pods that come later too; until cancelled.

        Raises:
            Retry: the cluster did not answer at first.
            InvalidInput: no pod has these parts.
        """
        found = await self._first()
        await self._history(found)
        try:
            while True:
                for source in found:
                    self._start(source)
                await asyncio.sleep(_LOOK)
                try:
                    found = await self._running()
                except KioskError as error:
                    self._complain(str(error))
        finally:
            await ended(*self._readers.values())

    async def _history(self, sources: Sequence[_Source]) -> list[str]:
        """Show the last lines of some containers; return of each why it could not be read, or an empty text."""
        lines: list[Line] = []
        # At least one, though none be shown: following begins after it.
        how = [f"--tail={max(1, self._count) if self._wish == Wish() else _FAR}"]
        if self._wish.since is not None:
            how = [*how, _since(dt.datetime.fromtimestamp(self._wish.since, dt.UTC).isoformat(timespec="seconds"))]
        problems = await asyncio.gather(*(self._read(source, how, lines.append) for source in sources))
        for line in sorted(lines, key=lambda line: line.at or 0.0)[-self._count :] if self._count else []:
            self._show(line)
        for problem in filter(None, problems):
            self._complain(problem)
        return list(problems)

    def _start(self, source: _Source) -> None:
        """Follow a container; one whose log ended goes on from there, as after a restart."""
        reader = self._readers.get(source)
        if reader is not None:
            if not reader.done():
                return
            if problem := reader.result():
                self._complain(problem)
        seen = self._seen.get(source)
        how = [_since(seen) if seen else "--tail=-1", "--follow"]
        self._readers[source] = asyncio.create_task(self._read(source, how, self._show), name=source.pod)

    async def _first(self) -> list[_Source]:
        if found := await self._running():
            return found
        raise InvalidInput(f"There is no pod of {', '.join(self._services) or 'CellKiosk'} in this namespace.")

    async def _running(self) -> list[_Source]:
        selector = kubectl.SELECTOR
        if self._services:
            selector += f",{kubectl.COMPONENT} in ({','.join(self._services)})"
        listed: Any = await asyncio.to_thread(kubectl.read, "get", "pods", "--selector", selector, begin=self._begin)
        return [
            _Source(
                item["metadata"]["name"],
                container["name"],
                item["metadata"].get("labels", {}).get(kubectl.COMPONENT, ""),
            )
            for item in listed["items"]
            if item.get("status", {}).get("phase") in ("Running", "Succeeded", "Failed")
            for container in (*item["spec"].get("initContainers", ()), *item["spec"]["containers"])
        ]

    async def _read(self, source: _Source, how: Sequence[str], take: Callable[[Line], None]) -> str:
        """Take a container's new lines until its log ends; return why it could not be read, or an empty text."""
        process = await asyncio.create_subprocess_exec(
            *(*self._begin, "logs", source.pod, f"--container={source.container}", "--timestamps", *how),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=2**20,
        )
        assert process.stdout
        assert process.stderr
        words = asyncio.create_task(process.stderr.read())
        try:
            async for raw in process.stdout:
                line = self._line(source, raw.decode(errors="replace"))
                if line is not None and self._wish.wants(line):
                    take(line)
            code = await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            said = kubectl.sentence((await words).decode(errors="replace").splitlines())
        return f"{source.pod}: {said or 'kubectl failed'}" if code else ""

    def _line(self, source: _Source, text: str) -> Line | None:
        """Return a line, with the node's time where it tells none itself; None for one that was shown before."""
        match = _STAMP.match(text)
        if match is None:
            return read(source.part, text)
        stamp, rest = match.groups()
        if stamp <= self._seen.get(source, ""):
            return None
        self._seen[source] = stamp
        line = read(source.part, rest)
        return line if line.at is not None else replace(line, at=dt.datetime.fromisoformat(stamp).timestamp())

    def _complain(self, problem: str) -> None:
        if problem not in self._told:
            sys.stderr.write(f"{problem}\n")
            self._told.add(problem)


def _since(time: str) -> str:
    return f"--since-time={time}"
