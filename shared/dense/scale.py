"""How large the objects of an image are, so that it can be brought to the size that a network knows."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.dense.card import ModelCard

LARGEST = 1024  # pixels along a side that are looked at; of a larger plane, the middle
FINEST = 1.5  # pixels: standard deviation of the Gaussian at the finest scale
OCTAVES = 5  # how often the scale doubles, which reaches objects of about 100 pixels
STEPS = 3  # scales in an octave
FAINTEST = 0.12  # response below which a spot is noise; a disk of full contrast gives 0.74
SMALLEST = 16  # pixels along a side of an image that is looked at


def estimate_zoom(plane: NDArray[Any], card: ModelCard) -> float:
    """Model pixels per image pixel that bring the objects of ``plane`` to the size that the model knows best.

    ``plane`` is (H, W) or (H, W, C), C as in the card, of any real dtype; the objects are looked for in the channel
    that the card's ``scale_channel`` names. Returns the ``zoom`` of :func:`shared.dense.predict`, from 0.1 to 4; 1
    where nothing can be told: an empty image, or a card without ``object_diameter``.
    """
    channel = plane if plane.ndim == 2 else plane[..., min(card.scale_channel, plane.shape[-1] - 1)]
    return zoom_to(card.object_diameter, object_diameter(channel) if card.object_diameter else 0.0)


def object_diameter(plane: NDArray[Any]) -> float:
    """The diameter of the typical object, bright on dark, in pixels; 0 where none can be told.

    ``plane`` is (H, W) of any real dtype. Bright spots of all sizes are looked for where the scale-normalised
    Laplacian of Gaussian is largest in place and in scale (Lindeberg, "Feature detection with automatic scale
    selection", International Journal of Computer Vision 30 (1998), p. 79); for a disk that is at a standard deviation
    of the diameter over 2.83. The answer is the mean of their logarithms. Each counts with the cube of its response
    and with its width, so that noise, texture and debris, which are faint or small, hardly count; objects that touch
    are spots of their own.
    """
    image = _unit(_middle(plane))
    if image is None:
        return 0.0
    total, weight, pixel = 0.0, 0.0, 1.0
    for _ in range(OCTAVES):
        if min(image.shape) < SMALLEST:
            break
        for width, responses in _spots(image):
            mine = float((responses**3).sum()) * width * pixel
            total += mine * float(np.log(width * pixel))
            weight += mine
        image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        pixel *= 2
    return float(np.sqrt(8) * np.exp(total / weight)) if weight else 0.0


def zoom_to(wanted: float, found: float, lowest: float = 0.1, highest: float = 4.0) -> float:
    """The zoom that brings objects of diameter ``found`` to ``wanted``; 1 where either is not known (0)."""
    if wanted <= 0 or found <= 0:
        return 1.0
    return min(highest, max(lowest, wanted / found))


def _middle(plane: NDArray[Any]) -> NDArray[np.float32]:
    rows, columns = (slice(max(0, (n - LARGEST) // 2), max(0, (n - LARGEST) // 2) + LARGEST) for n in plane.shape)
    return np.nan_to_num(np.asarray(plane[rows, columns], np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _unit(plane: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Intensities as the network would see them, a little smoothed; None for a constant plane."""
    low, high = np.percentile(plane, [1, 99.8])
    if not high > low:
        return None
    unit = np.sqrt(np.clip((plane - np.float32(low)) / np.float32(high - low), 0, 1))
    return np.asarray(cv2.GaussianBlur(unit, (0, 0), 1.0), np.float32)


def _spots(image: NDArray[np.float32]) -> list[tuple[float, NDArray[np.float64]]]:
    """The scales of one octave and the responses of the spots found at each; a neighbour on both sides is looked at."""
    widths = [FINEST * 2 ** (step / STEPS) for step in range(-1, STEPS + 1)]
    levels = [
        cv2.Laplacian(cv2.GaussianBlur(image, (0, 0), width), cv2.CV_32F, scale=-width * width) for width in widths
    ]
    highest = [cv2.dilate(level, np.ones((3, 3), np.uint8)) for level in levels]
    found = []
    for step in range(1, STEPS + 1):
        level = levels[step]
        peaks = (level == highest[step]) & (level >= highest[step - 1]) & (level >= highest[step + 1])
        found.append((widths[step], level[peaks & (level > FAINTEST)].astype(np.float64)))
    return found
