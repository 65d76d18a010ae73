"""Progress on a terminal: one bar for each file, drawn over and over; elsewhere one line for each change."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass
from typing import TextIO

from cellkiosk.models import Event

_EVERY = 0.1
"""s between two drawings."""
_MOST = 12
"""Bars at once; the others are summed up in a line."""
_WIDTH = 24


@dataclass
class Row:
    """One file's state."""

    name: str
    state: str = "waiting"
    percent: float = 0.0
    note: str = ""
    ended: bool = False


class Board:
    """All rows; ``quiet`` draws nothing."""

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._moving = self._stream.isatty()
        self._rows: list[Row] = []
        self._drawn = 0
        self._last = 0.0

    def add(self, name: str) -> Row:
        """Add a row."""
        row = Row(name)
        self._rows.append(row)
        return row

    def set(self, row: Row, state: str, percent: float, note: str = "") -> None:
        """Change a row, and draw."""
        changed = row.state != state
        row.state, row.percent, row.note = state, percent, note
        row.ended = state in {"done", "failed", "canceled"}
        if self._quiet:
            return
        if self._moving:
            self.draw(force=row.ended)
        elif changed:
            self._stream.write(f"{row.name}: {state}{f' ({note})' if note else ''}\n")
            self._stream.flush()

    def draw(self, *, force: bool = False) -> None:
        """Draw what changed, not more often than an eye can follow."""
        now = time.monotonic()
        if self._quiet or not self._moving or (now - self._last < _EVERY and not force):
            return
        self._last = now
        lines = self._lines(shutil.get_terminal_size().columns - 1)
        back = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._stream.write(back + "".join(f"\x1b[2K{line}\n" for line in lines))
        self._stream.flush()
        self._drawn = len(lines)

    def _lines(self, width: int) -> list[str]:
        # What has ended at the top of a long list gives way to what still runs.
        shown = self._rows if len(self._rows) <= _MOST else [row for row in self._rows if not row.ended][: _MOST - 1]
        lines = [self._line(row, width) for row in shown]
        if len(self._rows) > _MOST:
            ended = sum(row.ended for row in self._rows)
            lines += [""] * (_MOST - 1 - len(lines)) + [f"{ended} of {len(self._rows)} ended"[:width]]
        return lines

    def _line(self, row: Row, width: int) -> str:
        filled = round(_WIDTH * min(100.0, max(0.0, row.percent)) / 100)
        name = row.name if len(row.name) <= 30 else f"…{row.name[-29:]}"
        note = f"  {row.note}" if row.note else ""
        return f"{name:<30} {'█' * filled}{'░' * (_WIDTH - filled)} {row.percent:3.0f} % {row.state}{note}"[:width]


def note_of(event: Event) -> str:
    """Return what is worth telling of an event beside status and progress."""
    if event.reason:
        return event.reason
    if event.final:
        return ""
    place = f"place {event.position} in the queue" if event.position else ""
    return ", ".join(filter(None, [place, f"about {event.eta:.0f} s" if event.eta else ""]))
