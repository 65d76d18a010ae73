"""What an image may cost to read; checked from its header before anything is decoded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.errors import InvalidInput

#: Settings that raise a limit, as users of the consumer know them.
PIXELS, FRAMES, MEMORY, SECONDS = (
    f"KIOSK_LIMITS__{name}" for name in ("IMAGE_PIXELS", "FRAMES", "JOB_MEMORY", "DECODE_SECONDS")
)


@dataclass(frozen=True)
class ReadLimits:
    """What one file may cost."""

    pixels: int = 1_000_000_000
    """Pixels of all planes and channels together."""
    planes: int = 2_000
    """Planes of a stack or frames of a movie."""
    samples: int = 256
    """Channels."""
    bytes: int = 2_000_000_000
    """Bytes of memory for decoding: of one plane of one channel, and of what is compressed in one piece."""


def check_shape(shape: Sequence[int], dtype: np.dtype[np.generic], limits: ReadLimits) -> None:
    """Raise InvalidInput where an array of a file's header has no pixels, too many, or none that are numbers."""
    size = "x".join(map(str, shape))
    if dtype.kind not in "buif":
        raise InvalidInput(
            f"Pixels of type {dtype} cannot be analysed; allowed are integers and floating-point numbers.",
            code="unsupported-dtype",
        )
    pixels = math.prod(shape)
    if pixels < 1:
        raise InvalidInput(f"The image has no pixels: its size is {size}.", code="no-pixels")
    if pixels > limits.pixels:
        raise InvalidInput(
            f"The image has {size} = {pixels:,} pixels; allowed are {limits.pixels:,} in all planes and channels "
            f"together (setting {PIXELS}).",
            code="too-large",
        )


def check_stack(shape: tuple[int, int, int, int], itemsize: int, limits: ReadLimits) -> None:
    """Raise InvalidInput where an image (B, C, Y, X) has too many planes or channels or too large ones."""
    planes, channels, rows, columns = shape
    if planes > limits.planes:
        raise InvalidInput(
            f"The image has {planes:,} planes or frames; allowed are {limits.planes:,} (setting {FRAMES}).",
            code="too-many-planes",
        )
    if channels > limits.samples:
        raise InvalidInput(
            f"The image has {channels:,} channels; allowed are {limits.samples}.", code="too-many-channels"
        )
    check_piece(rows * columns * itemsize, limits, "One plane of the image")


def check_piece(size: int, limits: ReadLimits, what: str) -> None:
    """Raise InvalidInput where something that has to be held at once takes more memory than one job may."""
    if size > limits.bytes:
        raise InvalidInput(
            f"{what} takes {size:,} bytes of memory; allowed are {limits.bytes:,} (setting {MEMORY}).", code="too-large"
        )
