"""PNG files of 8 bits, written fast: one filter for all rows and the fastest deflate.

Format: W3C, Portable Network Graphics (PNG) Specification, third edition. Libraries try filters row by row, which
takes four to ten times as long for previews that are looked at once.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.consumer.writing.deflate import compress

_GREY, _RGB = 0, 2
# Every row holds its difference from the row above.
_UP = 2


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a picture, uint8 (H, W) grey or (H, W, 3) RGB."""
    rows, columns = pixels.shape[:2]
    lines = pixels.reshape(rows, -1)
    filtered = np.empty((rows, 1 + lines.shape[1]), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = lines[0]
    np.subtract(lines[1:], lines[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", columns, rows, 8, _RGB if pixels.ndim == 3 else _GREY, 0, 0, 0)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, data in ((b"IHDR", header), (b"IDAT", compress(filtered.tobytes())), (b"IEND", b"")):
            file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))
