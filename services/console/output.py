"""How the commands print: aligned columns, plain where nobody looks, coloured where somebody does."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Words that deserve a colour wherever they are a whole cell.
_COLOURS = {"ok": "green", "ready": "green", "done": "green", "failed": "red", "away": "red", "warning": "yellow"}

#: h from which a time is told in days.
_DAYS = 72


def console() -> Console:
    """Return a console on standard output; wide where it is no terminal, so that nothing is cut in a file."""
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False, soft_wrap=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; numbers go to the right."""
    shown = [[str(cell) for cell in row] for row in rows]
    drawn = Table(title=title, title_justify="left", box=None, pad_edge=False, title_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(shown) and all(_numeric(row[index]) for row in shown)
        drawn.add_column(column, justify="right" if numeric else "left", header_style="dim", overflow="fold")
    for row in shown:
        drawn.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    console().print(drawn)


def say(text: str = "") -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def duration(seconds: float | None) -> str:
    """Return a time as people say it: 850 ms, 12.3 s, 4 min 10 s, 3 h 05 min, 90 d 00 h."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    if minutes < 60 * _DAYS:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours:02d} h"


def _numeric(cell: str) -> bool:
    return cell in ("", "-") or cell.replace(".", "", 1).replace(",", "").lstrip("-").isdigit()
