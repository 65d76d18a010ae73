"""How every benchmark tells its figures: a table for people, and with ``--json FILE`` a list for programs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One figure, beside a peer's or a limit's of the same run.

    Attributes:
        metric: what was measured.
        unit: of ``ours`` and ``peer_value``.
        ours: our figure; None where it was promised and not measured.
        peer: who or what it is compared with; empty for none.
        peer_value: its figure.
        ratio: ours over the peer's, where that means something.
        target: what it should be, in words a reader can check.
        ok: whether the target was met; None where there is none.
    """

    metric: str
    unit: str
    ours: float | None
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    target: str = ""
    ok: bool | None = None


def row(
    metric: str,
    unit: str,
    ours: float,
    *,
    peer: str = "",
    peer_value: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Row:
    """Make a row; the bounds are on the ratio where there is a peer, else on our figure."""
    ratio = None if peer_value is None or not peer_value else ours / peer_value
    judged = ours if ratio is None else ratio
    unit_of_target = "×" if ratio is not None else f" {unit}"
    if at_least is not None:
        return Row(metric, unit, ours, peer, peer_value, ratio, f"≥ {at_least:g}{unit_of_target}", judged >= at_least)
    if at_most is not None:
        return Row(metric, unit, ours, peer, peer_value, ratio, f"≤ {at_most:g}{unit_of_target}", judged <= at_most)
    return Row(metric, unit, ours, peer, peer_value, ratio)


def options(about: str | None, parts: Sequence[str] = (), long: Sequence[str] = ()) -> argparse.Namespace:
    """Return what the command line asks for: ``json``, and in ``only`` the parts; the long ones where it says so."""
    parser = argparse.ArgumentParser(description=str(about).splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    if parts:
        parser.add_argument("--only", default=",".join(parts), help=f"of {', '.join((*parts, *long))}; by commas")
    if long:
        everything = ",".join((*parts, *long))
        parser.add_argument("--full", dest="only", action="store_const", const=everything, help="all of them")
    found = parser.parse_args()
    if parts:
        found.only = found.only.split(",")
        if unknown := sorted(set(found.only) - {*parts, *long}):
            parser.error(f"there is no part {unknown[0]!r}; there are {', '.join((*parts, *long))}")
    return found


def tell(rows: Sequence[Row], arguments: Sequence[str] | None = None) -> None:
    """Print the rows as a table; write them as JSON where the arguments hold ``--json FILE``."""
    heads = ("metric", "unit", "ours", "peer", "peer's", "ratio", "target", "met")
    table = [heads, *(_cells(each) for each in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(heads))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--json" in words:
        keep(rows, Path(words[words.index("--json") + 1]))


def keep(rows: Sequence[Row], target: Path | None) -> None:
    """Write the rows as JSON where a file is named; called after each part, so that a broken run keeps the others."""
    if target is not None:
        target.write_text(json.dumps([asdict(each) for each in rows], indent=1, ensure_ascii=False) + "\n", "utf-8")


def _cells(each: Row) -> tuple[str, ...]:
    met = {None: "", True: "yes", False: "NO"}[each.ok]
    return (
        each.metric, each.unit, _number(each.ours), each.peer, _number(each.peer_value), _number(each.ratio),
        each.target, met,
    )  # fmt: skip


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
