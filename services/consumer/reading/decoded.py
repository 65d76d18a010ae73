"""What became of an image file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Decoded:
    """A decoded image: an array file and what is known of it."""

    path: Path
    """A .npy file: (B, C, Y, X), the image's own dtype in this machine's byte order."""
    shape: tuple[int, int, int, int]
    dtype: str
    dim_order: str
    """The order of axes as the file was read: XY, XYC, CXY, XYB, BXY, BXYC, CXYB ..., ZYX, TYX."""
    batch_axis: str
    """What B is: "" for a single plane, "T" frames, "Z" slices, "B" anything else."""
    pixel_size_um: float | None
    """Micrometres; None where the file does not say."""
    channel_names: tuple[str, ...]
    """One for each channel, or none."""
    cpu_seconds: float = 0.0
    """Processor time that the decoding took, s."""

    def open(self) -> np.memmap[Any, np.dtype[Any]]:
        """Map the pixels, read-only."""
        mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)
        assert isinstance(mapped, np.memmap)
        return mapped
