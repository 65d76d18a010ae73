"""The list of all log events, read from the code; ``helm/generate.py`` writes it to docs/events.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEVELS = ("debug", "info", "warning", "error", "exception")
LOGGERS = ("log", "_log", "self._log", "self.log")

HEAD = """# Log events

Every line is one JSON object (readable text on a terminal, `KIOSK_TELEMETRY__LOG_FORMAT`) with one `event`, a name for
one thing that happens. Every line also has `timestamp`, `level` and `service`; within a request or a job `trace_id`,
and within a job `job`, `attempt` and `owner`. What is named like a secret is written as `***`, and so are passwords in
addresses.

The table is read from the code by `python helm/generate.py`; a test compares them.

| event | level | where | told with it |
| --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Event:
    """One place that logs."""

    name: str
    level: str
    where: str
    fields: tuple[str, ...]


def events() -> list[Event]:
    """Return every logged event of services and shared, by name."""
    files = [path for folder in ("services", "shared") for path in sorted((ROOT / folder).rglob("*.py"))]
    return sorted({each for path in files for each in _in_file(path)}, key=lambda e: (e.name, e.where, e.fields))


def _in_file(path: Path) -> Iterator[Event]:
    where = "/".join(path.relative_to(ROOT).parts[:2])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and node.args and (level := _level(node.func))):
            continue
        first = node.args[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            fields = tuple(sorted(each.arg for each in node.keywords if each.arg and each.arg != "exc_info"))
            yield Event(first.value, level, where, fields)


def _level(called: ast.expr) -> str:
    """Return the level that a call logs at; empty where it does not log. ``_say(...)`` chooses among levels itself."""
    if isinstance(called, ast.Call) and isinstance(called.func, ast.Attribute) and called.func.attr == "_say":
        return "info"
    if isinstance(called, ast.Attribute) and called.attr in LEVELS and ast.unparse(called.value) in LOGGERS:
        return "error" if called.attr == "exception" else called.attr
    return ""


def page() -> str:
    """Return docs/events.md."""
    rows: dict[str, tuple[set[str], set[str], set[str]]] = {}
    for each in events():
        levels, places, fields = rows.setdefault(each.name, (set(), set(), set()))
        levels.add(each.level)
        places.add(f"`{each.where}`")
        fields.update(f"`{name}`" for name in each.fields)
    lines = (
        f"| `{name}` | {' '.join(sorted(a))} | {' '.join(sorted(b))} | {' '.join(sorted(c))} |"
        for name, (a, b, c) in rows.items()
    )
    return HEAD + "\n".join(lines) + "\n"
