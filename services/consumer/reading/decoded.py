"""What became of an image file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Bytes of pixels up to which they are read and not mapped.
_FEW = 1 << 20


@dataclass(frozen=True)
class Decoded:
    """A decoded image: an array file and what is known of it."""

    path: Path
    """A .npy file: (B, C, Y, X), the image's own dtype in this machine's byte order."""
    shape: tuple[int, int, int, int]
    dtype: str
    dim_order: str
    """The order of axes as the file was read: XY, XYC, CXY, XYB, BXY, BXYC, CXYB ..., ZYX, TYX."""
    offset: int
    """Bytes before the first pixel in that file."""
    batch_axis: str
    """What B is: "" for a single plane, "T" frames, "Z" slices, "B" anything else."""
    pixel_size_um: float | None
    """Micrometres; None where the file does not say."""
    channel_names: tuple[str, ...]
    """One for each channel, or none."""
    cpu_seconds: float = 0.0
    """Processor time that the decoding took, s."""

    def open(self) -> NDArray[Any]:
        """Map the pixels, read-only; few of them are read at once, which is faster."""
        if math.prod(self.shape) * np.dtype(self.dtype).itemsize <= _FEW:
            return np.fromfile(self.path, self.dtype, offset=self.offset).reshape(self.shape)
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
