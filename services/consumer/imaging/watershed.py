"""Inner-distance maps to label images.

The model's map is highest in the middle of each object and falls towards its edge. Smoothing removes what is
finer than an object, each h-maximum of the rest is one object, and a watershed from these markers, masked by the
interior, gives each its pixels (see ``basins``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.consumer.imaging.basins import label_basins
from services.consumer.imaging.labels import remove_small

# One step of the uint8 map in the uint16 map that is smoothed.
STEP = 257
# Levels of the map: 1 is inner distance 0, 255 is inner distance 1, 0 is background.
LEVELS = 254

Holes = tuple[NDArray[np.int64], NDArray[np.int32]]


@dataclass(frozen=True)
class WatershedParams:
    """How objects are told apart; all lengths and areas in pixels of the model's scale."""

    smoothing: float = 1.0
    """Standard deviation of the Gaussian that smooths the map; pixels."""
    h: float = 0.05
    """Least height of an object's maximum above the pass to a higher one; share of the map's range, 0..1."""
    min_size: float = 15
    """Objects smaller than this are removed; pixels squared."""
    max_hole: float = 15
    """Holes in the interior up to this size are closed; pixels squared."""


def watershed(distance: NDArray[np.uint8], params: WatershedParams, out_shape: tuple[int, int]) -> NDArray[np.int32]:
    """Turn an inner-distance map at the model's scale into labels at the image's own size.

    Args:
        distance: uint8 (h, w): 0 background, 1..255 inside objects (1 + 254 x inner distance).
        params: thresholds and sizes in model pixels.
        out_shape: (H, W) of the image in pixels.

    Returns:
        int32 (H, W): 0 background, 1..n without gaps, from top to bottom.
    """
    if 0 in distance.shape or 0 in out_shape:
        return np.zeros(out_shape, np.int32)
    shrinks = out_shape[0] * out_shape[1] < distance.size
    shape = distance.shape if shrinks else out_shape
    # Pixels of the working grid per model pixel.
    zoom = float(np.sqrt(shape[0] * shape[1] / distance.size))
    height, mask = _enlarge(distance, (shape[0], shape[1]))
    holes = fill_holes(mask, int(params.max_hole * zoom**2))
    if params.smoothing > 0:
        height = cv2.GaussianBlur(height, (0, 0), params.smoothing * zoom, borderType=cv2.BORDER_REPLICATE)
    labels = label_basins(height, mask, max(1, round(params.h * LEVELS * STEP)))
    _reopen(labels, holes)
    if shrinks:
        labels = _shrink(labels, out_shape)
        zoom = float(np.sqrt(out_shape[0] * out_shape[1] / distance.size))
    return remove_small(labels, params.min_size * zoom**2)


def fill_holes(mask: NDArray[np.bool_], max_size: int) -> Holes:
    """Close, in place, holes of a mask up to ``max_size`` pixels that do not touch the image's edge.

    Returns:
        Where the closed pixels are, flat int64 (k,), and the number of the hole of each, int32 (k,).
    """
    none = (np.zeros(0, np.int64), np.zeros(0, np.int32))
    if max_size < 1:
        return none
    contours, tree = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if tree is None:
        return none
    # A contour with a parent runs around a hole, through the object's pixels: it encloses more than the hole.
    inner = [c for c, links in zip(contours, tree[0], strict=True) if links[3] >= 0]
    small = [c for c in inner if cv2.contourArea(c) <= 2 * max_size + 2]
    number = np.zeros(mask.shape if small else (0, 0), np.int32)
    for i, contour in enumerate(small, start=1):
        cv2.drawContours(number, [contour], 0, i, cv2.FILLED)
    inside = np.flatnonzero((number > 0) & ~mask) if small else none[0]
    hole = number.ravel()[inside]
    fits = np.bincount(hole, minlength=1)[hole] <= max_size
    mask.ravel()[inside[fits]] = True
    return inside[fits], hole[fits]


def _enlarge(distance: NDArray[np.uint8], shape: tuple[int, int]) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """Bring map and interior to the image's size, both smoothly, so that outlines show no steps."""
    height = distance.astype(np.uint16)
    height *= STEP
    if distance.shape == shape:
        return height, distance > 0
    size = (shape[1], shape[0])
    interior = cv2.compare(distance, 0, cv2.CMP_GT)
    mask = cv2.resize(interior, size, interpolation=cv2.INTER_LINEAR) >= 128
    return np.asarray(cv2.resize(height, size, interpolation=cv2.INTER_LINEAR), np.uint16), mask


def _reopen(labels: NDArray[np.int32], holes: Holes) -> None:
    """Make a closed hole background again, in place, where more than one object grew into it or around it.

    A gap that several cells surround is no hole of any of them.
    """
    inside, hole = holes
    if inside.size == 0:
        return
    lowest = np.full(int(hole.max()) + 1, np.iinfo(np.int32).max, np.int32)
    highest = np.zeros_like(lowest)
    # Holes do not touch the image's edge, so that every pixel has all its neighbours.
    columns = labels.shape[1]
    for step in (0, -columns - 1, -columns, -columns + 1, -1, 1, columns - 1, columns, columns + 1):
        label = labels.ravel()[inside + step]
        np.minimum.at(lowest, hole[label > 0], label[label > 0])
        np.maximum.at(highest, hole, label)
    shared = lowest != highest
    labels.ravel()[inside[shared[hole]]] = 0


def _shrink(labels: NDArray[np.int32], shape: tuple[int, int]) -> NDArray[np.int32]:
    size = (shape[1], shape[0])
    # Nearest neighbour moves 4-byte pixels whatever they mean; OpenCV takes them as float32.
    floats: NDArray[Any] = labels.view(np.float32)
    return np.asarray(cv2.resize(floats, size, interpolation=cv2.INTER_NEAREST_EXACT)).view(np.int32)
