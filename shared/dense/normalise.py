"""Intensities to what the network reads."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.dense.card import Normalisation


def normalise(plane: NDArray[np.float32], window: NDArray[np.float32], how: Normalisation) -> NDArray[np.float32]:
    """Map each channel's window to 0..1.

    ``plane`` float32 (h, w, C); ``window`` float32 (C, 2): low and high per channel. A channel whose window is
    empty (a constant image) becomes zeros; so do pixels that are not numbers. Returns float32 (C, h, w).
    """
    result = np.zeros((plane.shape[2], *plane.shape[:2]), np.float32)
    for channel, (low, high) in enumerate(window):
        if not high > low:
            continue
        values = (plane[:, :, channel] - np.float32(low)) * np.float32(1 / (float(high) - float(low)))
        if how.clip:
            values = np.clip(values, 0, 1)
        if how.gamma == 0.5:
            values = np.sqrt(values)
        elif how.gamma != 1:
            values = values**how.gamma
        result[channel] = np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return result


def rescale(plane: NDArray[np.float32], zoom: float) -> NDArray[np.float32]:
    """Resize float32 (H, W, C) to (round(H * zoom), round(W * zoom), C), each side at least 1 pixel."""
    height, width = scaled_shape((plane.shape[0], plane.shape[1]), zoom)
    if (height, width) == plane.shape[:2]:
        return plane
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(plane, (width, height), interpolation=how)
    return np.asarray(resized, np.float32).reshape(height, width, plane.shape[2])


def scaled_shape(shape: tuple[int, int], zoom: float) -> tuple[int, int]:
    """The height and width that an image of ``shape`` has at model scale."""
    return max(1, round(shape[0] * zoom)), max(1, round(shape[1] * zoom))
