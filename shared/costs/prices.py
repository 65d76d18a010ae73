"""Price lists: CSV files with a date, one line for each thing that costs money.

A line ``# date: YYYY-MM-DD`` says of when the prices are, and where they are shown, old ones are called old.
"""

from __future__ import annotations

import csv
import datetime as dt
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.errors import InvalidInput

FOLDER = Path(__file__).parent / "lists"
DEFAULT = "2019-06"
KINDS = ("machine", "gpu", "network", "storage")
#: Days after which a list is old.
_FRESH = 400
_CURRENCY = re.compile(r"^# currency: *(\S+)", re.MULTILINE)
_DATE = re.compile(r"^# date: *(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Prices:
    """One list.

    Attributes:
        name: where it came from, told beside every figure.
        rows: (kind, type) to (on demand, spot).
        date: of when the prices are; None where the list does not say.
        currency: its sign or code, from a line ``# currency: $``; empty where the list does not say.
    """

    name: str
    rows: Mapping[tuple[str, str], tuple[float, float]]
    date: dt.date | None = None
    currency: str = ""

    def warning(self, today: dt.date | None = None) -> str:
        """Return a sentence to be shown beside figures of an old list, else an empty text."""
        today = today or dt.datetime.now(dt.UTC).date()
        if self.date is not None and (today - self.date).days <= _FRESH:
            return ""
        of = f"of {self.date:%B %Y}, and no longer what is paid" if self.date else "of no known date"
        return f"The prices are {of} (list {self.name}); name a list of your own by KIOSK_PRICES, see docs/cost.md."

    def hour(self, machine: str, gpu: str = "", gpus: int = 1, *, spot: bool = False) -> float:
        """Return what a machine with some GPUs costs for an hour, in the list's currency.

        Raises:
            InvalidInput: the list lacks the machine or the GPU; the sentence names it.
        """
        price = self.of("machine", machine, spot=spot)
        return price + (gpus * self.of("gpu", gpu, spot=spot) if gpu else 0.0)

    def of(self, kind: str, name: str, *, spot: bool = False) -> float:
        """Return one price.

        Raises:
            InvalidInput: the list lacks it.
        """
        row = self.rows.get((kind, name))
        if row is None:
            known = ", ".join(sorted(n for k, n in self.rows if k == kind))
            raise InvalidInput(
                f"The price list {self.name} has no price for the {kind} {name!r}; it knows {known}. "
                "Name another list by --prices."
            )
        return row[1] if spot else row[0]


def load(named: str = "") -> Prices:
    """Return a price list: a file, or one of those that come with CellKiosk by its date.

    Raises:
        InvalidInput: there is no such list, or a line of it is wrong.
    """
    name = named or os.environ.get("KIOSK_PRICES") or DEFAULT
    path = Path(name) if Path(name).suffix == ".csv" else FOLDER / f"{name}.csv"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.csv")))
        raise InvalidInput(f"There is no price list {name!r}; those that come with CellKiosk are {known}.") from error
    rows = dict(_row(path.name, row) for row in _rows(text.splitlines()))
    currency = _CURRENCY.search(text)
    return Prices(path.stem, rows, _date(path.name, text), currency[1] if currency else "")


def _date(name: str, text: str) -> dt.date | None:
    said = _DATE.search(text)
    try:
        return dt.date.fromisoformat(said[1]) if said else None
    except ValueError as error:
        raise InvalidInput(f"The price list {name} has a wrong date ({error}); its form is YYYY-MM-DD.") from error


def _rows(lines: Iterable[str]) -> list[dict[str, str]]:
    return list(csv.DictReader(line for line in lines if line.strip() and not line.startswith("#")))


def _row(name: str, row: dict[str, str]) -> tuple[tuple[str, str], tuple[float, float]]:
    try:
        prices = float(row["on_demand"]), float(row["spot"])
        if row["kind"] not in KINDS or min(prices) < 0:
            raise ValueError
        return (row["kind"], row["type"]), prices
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"The price list {name} has a wrong line, {dict(row)}: each is kind,type,on_demand,spot with a kind of "
            f"{', '.join(KINDS)} and prices that are numbers of at least 0."
        ) from error
