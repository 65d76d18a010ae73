"""The log files of ``kiosk up``."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from services.console.logs.lines import Line, Wish, read
from services.console.up.keeper import tail
from shared.errors import InvalidInput

#: s between two looks at the files.
_LOOK = 0.25
#: Lines read back at most where only some of them are wanted.
_FAR = 50_000

Show = Callable[[Line], None]


def files(folder: Path, services: Sequence[str]) -> dict[str, Path]:
    """Return the log files of services, or of all; none where nothing ever ran.

    Raises:
        InvalidInput: a service has none.
    """
    found = {path.stem: path for path in sorted(folder.glob("*.log"))}
    if not found:
        return {}
    # The autoscaler starts the consumers, so their lines are in its file.
    wanted = {"autoscaler" if name == "consumer" else name for name in services}
    missing = sorted(wanted - found.keys())
    if missing:
        known = ", ".join(sorted({*found, "consumer"}))
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
