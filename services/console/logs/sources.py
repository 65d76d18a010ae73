"""Where log lines come from: the files of ``kiosk up``, or the pods of a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from services.console import kubectl
from services.console.logs.lines import Line, Wish, read
from services.console.up.keeper import tail
from shared.errors import InvalidInput, Retry

#: s between two looks at files, and at the list of pods.
_LOOK = 0.25
_LOOK_AT_PODS = 3.0
#: Lines read back at most where only some of them are wanted.
_FAR = 50_000

Show = Callable[[Line], None]


def files(folder: Path, services: Sequence[str]) -> dict[str, Path]:
    """Return the log files of services, or of all.

    Raises:
        InvalidInput: a service has none.
    """
    found = {path.stem: path for path in sorted(folder.glob("*.log"))}
    # The autoscaler starts the consumers, so their lines are in its file.
    wanted = {"autoscaler" if name == "consumer" else name for name in services}
    missing = sorted(wanted - found.keys())
    if missing:
        known = ", ".join(sorted({*found, "consumer"})) if found else "none"
        raise InvalidInput(f"There is no log of {missing[0]!r} in {folder}; there are: {known}.")
    return {name: path for name, path in found.items() if not wanted or name in wanted}


def last(paths: dict[str, Path], wish: Wish, count: int) -> list[Line]:
    """Return the last lines that are wanted, in the order of their times."""
    found: list[Line] = []
    for part, path in paths.items():
        few = count if wish == Wish() else _FAR
        lines = [read(part, text) for text in tail(path, few)]
        found += [line for line in _timed(lines) if wish.wants(line)][-count:]
    return sorted(found, key=lambda line: line.at or 0.0)[-count:]


def _timed(lines: list[Line]) -> list[Line]:
    """Give lines without a time that of the line before, so that they stay together when sorted."""
    timed, at = [], None
    for line in lines:
        at = line.at if line.at is not None else at
        timed.append(line if line.at is not None else Line(line.part, line.text, line.fields, at))
    return timed


async def follow(paths: dict[str, Path], wish: Wish, show: Show) -> None:
    """Show what is written from now on, until cancelled; a file that was put aside is begun anew."""
    places = {path: path.stat().st_size for path in paths.values()}
    while True:
        for part, path in paths.items():
            for text in _fresh(path, places):
                line = read(part, text)
                if wish.wants(line):
                    show(line)
        await asyncio.sleep(_LOOK)


def _fresh(path: Path, places: dict[Path, int]) -> list[str]:
    """Return the whole lines that came since the last look."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = places[path] if size >= places[path] else 0
        file.seek(start)
        data = file.read()
        whole = data.rfind(b"\n") + 1
        places[path] = start + whole
        return data[:whole].decode(errors="replace").splitlines()
    return []


async def pods(
    services: Sequence[str], wish: Wish, count: int, show: Show, *, namespace: str, context: str, forever: bool
) -> None:
    """Show the logs of all pods of some parts; with ``forever``, also of those that come later.

    Raises:
        Retry: the cluster does not answer.
        InvalidInput: no pod has these parts.
    """
    readers: dict[str, asyncio.Task[None]] = {}
    async with asyncio.TaskGroup() as group:
        first = True
        while True:
            for pod, component in await asyncio.to_thread(_running, services, namespace, context):
                if pod not in readers or readers[pod].done():
                    command = [*kubectl.words(namespace, context), "logs", pod, "--all-containers"]
                    command += [f"--tail={count if first else -1}", *(["--follow"] if forever else [])]
                    readers[pod] = group.create_task(_read_pod(command, component, wish, show))
            if first and not readers:
                raise InvalidInput(f"There is no pod of {', '.join(services) or 'CellKiosk'} in this namespace.")
            if not forever:
                return
            first = False
            await asyncio.sleep(_LOOK_AT_PODS)


def _running(services: Sequence[str], namespace: str, context: str) -> list[tuple[str, str]]:
    selector = kubectl.SELECTOR
    if services:
        selector += f",{kubectl.COMPONENT} in ({','.join(services)})"
    listed: dict[str, Any] = kubectl.read("get", "pods", "--selector", selector, namespace=namespace, context=context)
    return [
        (item["metadata"]["name"], item["metadata"].get("labels", {}).get(kubectl.COMPONENT, ""))
        for item in listed["items"]
        if item.get("status", {}).get("phase") in ("Running", "Succeeded", "Failed")
    ]


async def _read_pod(command: Sequence[str], part: str, wish: Wish, show: Show) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=2**20
    )
    try:
        async for text in _texts(process):
            line = read(part, text)
            if wish.wants(line):
                show(line)
        if await process.wait() and process.stderr is not None:
            told = (await process.stderr.read()).decode(errors="replace").strip()
            raise Retry(f"The logs of a pod cannot be read: {told}")
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _texts(process: asyncio.subprocess.Process) -> AsyncIterator[str]:
    assert process.stdout is not None
    async for raw in process.stdout:
        yield raw.decode(errors="replace")
