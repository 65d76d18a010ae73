"""Intensities of any type as 256 greys."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.consumer.imaging.normalise import rescale


def stretched(image: NDArray[Any], window: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Stretch a plane (H, W) of any real dtype from a window, float32 (1, 2), to 0..255; what is not finite: 0."""
    if image.dtype in (np.uint8, np.uint16) and image.size > 1 << (8 * image.dtype.itemsize):
        # There are few values: each is stretched once.
        values = np.arange(1 << (8 * image.dtype.itemsize), dtype=np.float32)
        return np.asarray(np.take(_stretch(values, window), image))
    return _stretch(real(image), window)


def real(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return float32; what is not finite or out of its range becomes 0."""
    with np.errstate(over="ignore"):
        values = np.asarray(image, np.float32)
    if image.dtype.kind == "f":
        values = np.nan_to_num(values, nan=0, posinf=0, neginf=0)
    return values


def _stretch(values: NDArray[np.float32], window: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(rescale(values[..., np.newaxis], window)[..., 0] * 255).astype(np.uint8)
