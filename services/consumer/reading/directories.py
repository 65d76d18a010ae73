"""The chain of a TIFF file's directories, walked before a library parses it, since a chain can run in a circle.

Format: Adobe, TIFF revision 6.0 (1992), section 2; BigTIFF (2007) is the same with version 43 and offsets
of 8 bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from shared.errors import InvalidInput

#: Tags of one directory; the largest files in the wild have some dozens.
_TAGS = 1024
#: Directories looked at before a file is called endless.
_DIRECTORIES = 200_000


@dataclass(frozen=True)
class _Layout:
    order: str
    offset: str
    count: str
    entry: int

    def number(self, kind: str, data: bytes) -> int:
        return int(struct.unpack(self.order + kind, data)[0])


_CLASSIC = ("I", "H", 12)
_BIG = ("Q", "Q", 20)


def check_directories(path: Path) -> int:
    """Walk the main chain of directories of a TIFF or BigTIFF file and return how many there are.

    Raises:
        InvalidInput: the chain is empty, runs in a circle, leaves the file, or a directory is not valid.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        layout, place = _header(file)
        seen: set[int] = set()
        while place:
            if place in seen:
                raise _damaged("its directories run in a circle")
            if len(seen) >= _DIRECTORIES:
                raise _damaged(f"it has more than {_DIRECTORIES:,} directories")
            seen.add(place)
            place = _next(file, layout, place, size)
    if not seen:
        raise _damaged("it holds no image")
    return len(seen)


def _header(file: BinaryIO) -> tuple[_Layout, int]:
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    offset, count, entry = _BIG if big else _CLASSIC
    layout = _Layout(order, offset, count, entry)
    start = head[8:16] if big else head[4:8]
    if len(start) < (8 if big else 4):
        raise _damaged("its header is incomplete")
    return layout, layout.number(offset, start)


def _next(file: BinaryIO, layout: _Layout, place: int, size: int) -> int:
    """Return where the directory after the one at ``place`` lies; 0 for the last."""
    width = struct.calcsize(layout.count)
    file.seek(place) if place < size else None
    head = file.read(width) if place < size else b""
    if len(head) < width:
        raise _damaged("a directory lies outside the file, which may be truncated")
    count = layout.number(layout.count, head)
    if not 0 < count <= _TAGS:
        raise _damaged(f"a directory claims to have {count:,} tags")
    file.seek(place + width + count * layout.entry)
    width = struct.calcsize(layout.offset)
    tail = file.read(width)
    # Some writers leave out the last offset at the very end of the file.
    if len(tail) < width:
        if place + struct.calcsize(layout.count) + count * layout.entry > size:
            raise _damaged("a directory is cut off: the file is truncated")
        return 0
    return layout.number(layout.offset, tail)


def _damaged(what: str) -> InvalidInput:
    return InvalidInput(f"The TIFF file is damaged: {what}.", code="damaged")
