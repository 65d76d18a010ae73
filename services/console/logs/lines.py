"""One log line: read, judged and shown."""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass, field
from typing import Any

from shared.errors import InvalidInput

LEVELS = ("debug", "info", "warning", "error")
_COLOURS = {"warning": "\033[33m", "error": "\033[31m", "debug": "\033[2m"}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, None: 1}
_OWN = ("timestamp", "level", "event", "service")


@dataclass(frozen=True)
class Line:
    """A line of a service, structured if it was JSON.

    Attributes:
        part: where it came from: a service, or a pod.
        text: as it was written.
        fields: its JSON, empty for a line of another program.
        at: its time (s since 1970), None where it has none.
    """

    part: str
    text: str
    fields: dict[str, Any] = field(default_factory=dict)
    at: float | None = None

    @property
    def level(self) -> str:
        """Its level; a line of another program counts as info."""
        level = str(self.fields.get("level", "info"))
        return level if level in LEVELS else "error" if level == "critical" else "info"


@dataclass(frozen=True)
class Wish:
    """Which lines are wanted; of which services, where a file holds those of several (none: of all)."""

    level: str = "debug"
    job: str = ""
    since: float | None = None
    services: frozenset[str] = frozenset()

    def wants(self, line: Line) -> bool:
        """Tell whether a line is to be shown."""
        if LEVELS.index(line.level) < LEVELS.index(self.level):
            return False
        if self.job and self.job not in line.text:
            return False
        if self.services and line.fields and line.part not in self.services:
            return False
        return self.since is None or line.at is None or line.at >= self.since


def read(part: str, text: str) -> Line:
    """Read a line."""
    text = text.rstrip("\n")
    if not text.startswith("{"):
        return Line(part, text)
    try:
        fields = json.loads(text)
    except ValueError:
        return Line(part, text)
    return Line(str(fields.get("service") or part), text, fields, _time(str(fields.get("timestamp", ""))))


def shown(line: Line, *, colour: bool) -> str:
    """Return a line in columns: time, level, service, event, and the rest as name=value."""
    if not line.fields:
        return f"{'':<12} {'':<7} {line.part:<11} {line.text}"
    told = {name: value for name, value in line.fields.items() if name not in _OWN and value is not None}
    rest = " ".join(f"{name}={_value(value)}" for name, value in told.items())
    at = _clock(line.at)
    whole = f"{at:<12} {line.level:<7} {line.part:<11} {line.fields.get('event', '')}  {rest}".rstrip()
    tint = _COLOURS.get(line.level, "") if colour else ""
    return f"{tint}{whole}\033[0m" if tint else whole


def span(text: str) -> float:
    """Return a time such as 90s, 10m, 2h or 1d in seconds.

    Raises:
        InvalidInput: it is none.
    """
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(f"{text!r} is no time; write it as 90s, 10m, 2h or 1d.")
    return float(match.group(1)) * _SECONDS[match.group(2)]


def _time(text: str) -> float | None:
    try:
        return dt.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _clock(at: float | None) -> str:
    """Return the time of a line of today, else its day and minute; as long as the column at most."""
    if at is None:
        return ""
    then = dt.datetime.fromtimestamp(at)
    if then.date() == dt.datetime.now().date():
        return then.strftime("%H:%M:%S.%f")[:12]
    return then.strftime("%d %b %H:%M")


def _value(value: Any) -> str:
    return value if isinstance(value, str) and " " not in value else json.dumps(value, default=str, ensure_ascii=False)
