"""PNG and JPEG: their headers, checked before they are decoded."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import numpy as np

from services.consumer.reading.limits import ReadLimits, check_piece, check_shape
from services.consumer.reading.source import Source, Target
from shared.errors import InvalidInput

# Colour types of PNG: samples of a pixel; a palette is decoded to three.
_PNG_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_PNG_ALPHA = (4, 6)
# JPEG's start-of-frame markers: all of FFC0-FFCF but tables (C4), extensions (C8) and arithmetic coding (CC).
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers that stand alone, without a length.
_BARE = {0x01, *range(0xD0, 0xD9)}
_RGB = ("red", "green", "blue")


@contextlib.contextmanager
def open_png(path: Path, limits: ReadLimits) -> Iterator[Source]:
    """Open a PNG of any depth and colour type; an alpha channel is left out.

    Raises:
        InvalidInput: damaged, truncated or too large.
    """
    with path.open("rb") as file:
        head = file.read(33)
    if len(head) < 33 or head[12:16] != b"IHDR":
        raise InvalidInput("The PNG file is truncated: its header is incomplete.", code="damaged")
    columns, rows, depth, colour = struct.unpack(">IIBB", head[16:26])
    if colour not in _PNG_SAMPLES or depth not in (1, 2, 4, 8, 16):
        raise InvalidInput("The PNG file is damaged: its header is not valid.", code="damaged")
    samples = _PNG_SAMPLES[colour]
    dtype = np.dtype(np.uint16 if depth == 16 else np.uint8)
    check_shape((rows, columns, samples), dtype, limits)
    check_piece(2 * rows * columns * samples * dtype.itemsize, limits, "Decoding the PNG image")
    kept = samples - 1 if colour in _PNG_ALPHA else samples

    def write(target: Target) -> None:
        try:
            image = imagecodecs.png_decode(path.read_bytes())
        except imagecodecs.PngError as error:
            raise InvalidInput("The PNG file is damaged or truncated.", code="damaged") from error
        image = image.reshape(rows, columns, -1)[..., :kept]
        target.write(image[..., 0] if kept == 1 else image)

    yield _picture(rows, columns, kept, dtype, write)


@contextlib.contextmanager
def open_jpeg(path: Path, limits: ReadLimits) -> Iterator[Source]:
    """Open a JPEG of 8 bits, grey, RGB or CMYK.

    Raises:
        InvalidInput: damaged, truncated, too large, or of a depth that is not supported.
    """
    data = path.read_bytes()
    depth, rows, columns, samples = _jpeg_frame(data)
    if depth != 8 or samples not in (1, 3, 4):
        raise InvalidInput(
            f"A JPEG of {depth} bits and {samples} components cannot be read; allowed are 8 bits and 1, 3 or 4.",
            code="unsupported",
        )
    dtype = np.dtype(np.uint8)
    check_shape((rows, columns, samples), dtype, limits)
    check_piece(2 * rows * columns * samples, limits, "Decoding the JPEG image")
    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise InvalidInput("The JPEG file is truncated: it has no end.", code="damaged")

    def write(target: Target) -> None:
        try:
            image = imagecodecs.jpeg8_decode(data)
        except imagecodecs.Jpeg8Error as error:
            raise InvalidInput("The JPEG file is damaged or truncated.", code="damaged") from error
        target.write(image.reshape(rows, columns) if samples == 1 else image)

    yield _picture(rows, columns, samples, dtype, write)


def _picture(
    rows: int, columns: int, samples: int, dtype: np.dtype[np.generic], write: Callable[[Target], None]
) -> Source:
    shape = (rows, columns) if samples == 1 else (rows, columns, samples)
    return Source(
        shape,
        dtype,
        write,
        axes="YX" if samples == 1 else "YXS",
        channel_names=_RGB if samples == 3 else (),
    )


def _jpeg_frame(data: bytes) -> tuple[int, int, int, int]:
    """Return depth, rows, columns and components from a JPEG's start of frame."""
    place = 2
    while place + 9 < len(data):
        if data[place] != 0xFF:
            break
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in _BARE:
            place += 2
        elif marker in _FRAMES:
            return struct.unpack(">BHHB", data[place + 4 : place + 10])
        else:
            place += 2 + max(2, int.from_bytes(data[place + 2 : place + 4]))
    raise InvalidInput("The JPEG file is damaged or truncated: it has no frame.", code="damaged")
