"""Intensities to what the network reads."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.dense.card import Normalisation


def normalise(plane: NDArray[Any], window: NDArray[np.float32], how: Normalisation) -> NDArray[np.float32]:
    """Map each channel's window to 0..1.

    ``plane`` (h, w, C), integers or float32; ``window`` float32 (C, 2): low and high per channel. A channel whose
    window is empty (a constant image) becomes zeros; so do pixels that are not numbers. Returns float32 (C, h, w).
    """
    result = np.zeros((plane.shape[2], *plane.shape[:2]), np.float32)
    for channel, (low, high) in enumerate(window):
        if not high > low:
            continue
        values = result[channel]
        np.subtract(plane[:, :, channel], np.float32(low), out=values, dtype=np.float32)
        values *= np.float32(1 / (float(high) - float(low)))
        if how.clip:
            np.clip(values, 0, 1, out=values)
        if how.gamma == 0.5:
            np.sqrt(values, out=values)
        elif how.gamma != 1:
            np.power(values, how.gamma, out=values)
        if plane.dtype.kind == "f":
            np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return result


def rescale(plane: NDArray[Any], zoom: float) -> NDArray[Any]:
    """Resize (H, W, C) to float32 (round(H * zoom), round(W * zoom), C), each side at least 1 pixel.

    Where that is its size it is returned as it is, in its own dtype.
    """
    height, width = scaled_shape((plane.shape[0], plane.shape[1]), zoom)
    if (height, width) == plane.shape[:2]:
        return plane
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(plane, np.float32), (width, height), interpolation=how)
    return np.asarray(resized, np.float32).reshape(height, width, plane.shape[2])


def scaled_shape(shape: tuple[int, int], zoom: float) -> tuple[int, int]:
    """The height and width that an image of ``shape`` has at model scale."""
    return max(1, round(shape[0] * zoom)), max(1, round(shape[1] * zoom))
