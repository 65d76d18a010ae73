"""Which axis of an array is what.

Letters: X and Y are the spatial axes (rows first, whichever letter comes first), C channels, B batch, and in
files also Z (depth), T (time), S (colour samples, a kind of channel). Z, T and B are all worked through plane
by plane. ``?`` stands for an axis that the file does not name.

How an order is decided, first that applies:
1. the user's option, where it has a letter for each axis and does not contradict what the file is sure of;
2. the names in the file, where they are complete;
3. the rule (see ``guess``).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import InvalidInput

# What users may name; any order of letters works, these are the usual ones.
ORDERS = ("XY", "XYC", "CXY", "XYB", "BXY", "BXYC", "CXYB", "ZYX", "TYX")
SPATIAL = "XY"
CHANNEL = "CS"
STACKED = "BTZ"
# An axis of at most so many entries can be channels by rule.
MAX_CHANNELS = 4


@dataclass(frozen=True)
class Axes:
    """The decided order of an array's axes."""

    order: str
    """One letter of XYCBTZS for each axis, e.g. ``"TCYX"``."""
    source: str
    """Who decided: ``"option"``, ``"metadata"`` or ``"rule"``."""

    @property
    def dim_order(self) -> str:
        """The order in the users' letters (X, Y, C, B), e.g. ``"BCXY"``."""
        letters: list[str] = []
        for letter in self.order:
            plain = "C" if letter in CHANNEL else "B" if letter in STACKED else "Y" if "X" in letters else "X"
            if plain not in letters:
                letters.append(plain)
        return "".join(letters)

    def of(self, kind: str) -> tuple[int, ...]:
        """Positions of the axes whose letter is in ``kind``."""
        return tuple(i for i, letter in enumerate(self.order) if letter in kind)


def decide(shape: Sequence[int], metadata: str = "", option: str = "") -> Axes:
    """Decide the order of an array's axes.

    Args:
        shape: of the array as it is stored.
        metadata: one letter for each axis as the file names them, ``?`` where it does not; or ``""``.
        option: what the user chose, e.g. ``"BXYC"``; ``""`` to have it worked out.

    Raises:
        InvalidInput: the shape is no image, or the option does not fit it; the text names what does.
    """
    if len(shape) < 2:
        raise InvalidInput(f"An array of shape {tuple(shape)} is no image: at least two axes are needed.", code="axes")
    named = metadata if len(metadata) == len(shape) else "?" * len(shape)
    if option.strip():
        return Axes(_from_option(shape, named, option.strip().upper()), "option")
    if "?" not in named and is_order(named):
        return Axes(named, "metadata")
    return Axes(guess(shape, named), "rule")


def is_order(letters: str) -> bool:
    """Tell whether letters name two spatial axes and every other at most once."""
    known = all(letter in SPATIAL + CHANNEL + STACKED for letter in letters)
    return known and len(set(letters)) == len(letters) and set(SPATIAL) <= set(letters)


def guess(shape: Sequence[int], named: str = "") -> str:
    """Work out the order of an array's axes from its shape.

    The spatial axes are two neighbouring axes: of equal length where there are such of more than 4 entries, since
    cameras are square more often than stacks are as deep as they are wide; of these, else of all, the pair with
    the largest product, and of equals the last. Of the rest the last axis with two to 4 entries is the channels,
    all others are stacks. Axes that the file names keep their names.

    Raises:
        InvalidInput: more axes than there are names for.
    """
    named = named or "?" * len(shape)
    letters = [letter if letter in SPATIAL + CHANNEL + STACKED else "?" for letter in named]
    if not set(SPATIAL) <= set(letters):
        letters = ["?" if letter in SPATIAL else letter for letter in letters]
        pairs = [i for i in range(len(shape) - 1) if letters[i] == letters[i + 1] == "?"]
        if not pairs:
            raise InvalidInput(f"No image plane was found in an array of shape {tuple(shape)}.", code="axes")
        row = max(pairs, key=lambda i: (shape[i] == shape[i + 1] > MAX_CHANNELS, shape[i] * shape[i + 1], i))
        letters[row : row + 2] = "Y", "X"
    small = [i for i, a in enumerate(letters) if a == "?" and 1 < shape[i] <= MAX_CHANNELS]
    if small and not set(CHANNEL) & set(letters):
        letters[small[-1]] = "C"
    spare = [letter for letter in STACKED if letter not in letters]
    unnamed = [i for i, letter in enumerate(letters) if letter == "?"]
    if len(unnamed) > len(spare):
        raise InvalidInput(f"An array of shape {tuple(shape)} has more axes than can be worked through.", code="axes")
    for i, letter in zip(unnamed, spare, strict=False):
        letters[i] = letter
    return "".join(letters)


def _from_option(shape: Sequence[int], named: str, option: str) -> str:
    if not is_order(option):
        raise InvalidInput(
            f"Dimension order {option!r} is not known; allowed are {', '.join(ORDERS)}, or none to have it worked out.",
            code="dimension-order",
        )
    letters = _fit(shape, option)
    if letters is None or not _agrees(letters, named):
        raise InvalidInput(
            f"Dimension order {option} does not fit an image of shape {'x'.join(map(str, shape))}"
            f"{_as_named(named)}; fitting are {', '.join(_fitting(shape, named))}, or none to have it worked out.",
            code="dimension-order",
        )
    return letters


def _fit(shape: Sequence[int], option: str) -> str | None:
    """Lay an option's letters over the axes, or None.

    An axis of length 1 may lack a letter. B and C may lack an axis, where the rule finds the same image plane.
    """
    if len(option) > len(shape):
        return _shorten(option, shape)
    letters: list[str] = []
    missing = len(shape) - len(option)
    spare = [letter for letter in STACKED if letter not in option]
    rest = list(option)
    for length in shape:
        if missing and length == 1 and spare:
            letters.append(spare.pop())
            missing -= 1
        elif rest:
            letters.append(rest.pop(0))
    return "".join(letters) if len(letters) == len(shape) and not rest else None


def _shorten(option: str, shape: Sequence[int]) -> str | None:
    plane = _plane(guess(shape))
    for gone in itertools.combinations(STACKED + CHANNEL, len(option) - len(shape)):
        short = "".join(letter for letter in option if letter not in gone)
        if len(short) == len(shape) and _plane(short) == plane:
            return short
    return None


def _plane(letters: str) -> list[int]:
    return [i for i, letter in enumerate(letters) if letter in SPATIAL]


def _agrees(letters: str, named: str) -> bool:
    """Tell whether no axis that the file calls spatial or colour is called otherwise, and the other way."""
    for ours, theirs in zip(letters, named, strict=True):
        if theirs in SPATIAL and ours not in SPATIAL:
            return False
        if theirs == "S" and ours not in CHANNEL:
            return False
        if theirs not in SPATIAL + "?" and ours in SPATIAL:
            return False
    return True


def _fitting(shape: Sequence[int], named: str) -> list[str]:
    """Return the usual orders that fit a shape."""
    found = []
    for order in ORDERS:
        letters = _fit(shape, order) if len(order) <= len(shape) else None
        if letters is not None and _agrees(letters, named):
            found.append(order)
    return found or ["none of the usual ones"]


def _as_named(named: str) -> str:
    return f" whose axes the file names {named}" if "?" not in named else ""
