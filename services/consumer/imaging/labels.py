"""Label images: renumbering, removing, measuring. 0 is background, all else is an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import fastremap
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelStatistics:
    """What is known of each label, in the order of ``labels``; lengths in pixels."""

    labels: NDArray[np.int32]
    """int32 (n,), rising."""
    areas: NDArray[np.int64]
    """int64 (n,); pixels squared."""
    centroids: NDArray[np.float64]
    """float64 (n, 2): y, x."""
    boxes: NDArray[np.int32]
    """int32 (n, 4): top, left, bottom, right; the last two exclusive."""


def relabel(labels: NDArray[Any]) -> NDArray[np.int32]:
    """Renumber labels to 1..n without gaps, keeping their order; int32 of the same shape."""
    if labels.size == 0:
        return labels.astype(np.int32)
    highest = int(labels.max())
    if highest <= 4 * labels.size + 1024:
        present = np.zeros(highest + 1, np.bool_)
        present[labels.ravel()] = True
        return _renumber(labels, present)
    known = np.sort(fastremap.unique(labels))
    known = known[known != 0]
    number = np.searchsorted(known, labels.ravel()).astype(np.int32) + 1
    return np.where(labels.ravel() == 0, np.int32(0), number).reshape(labels.shape)


def remove_small(labels: NDArray[np.int32], min_size: float) -> NDArray[np.int32]:
    """Remove labels of fewer than ``min_size`` pixels and renumber the rest to 1..n in the same order."""
    if labels.size == 0:
        return labels
    counts = areas(labels)
    kept = counts >= max(1.0, min_size)
    kept[0] = True
    return labels if kept.all() else _renumber(labels, kept)


def areas(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """Count the pixels of each label, int64 (highest label + 1,); entry 0 is the background's."""
    return np.bincount(labels.ravel()) if labels.size else np.zeros(1, np.int64)


def statistics(labels: NDArray[np.int32]) -> LabelStatistics:
    """Measure area, centroid and bounding box of every label of an (H, W) image.

    Counts runs, pixels of one label side by side: there are far fewer of them than pixels.
    """
    start, value, length = _runs(labels)
    size = int(value.max()) + 1 if value.size else 1
    y, x = np.divmod(start, max(1, labels.shape[1]))
    area = np.bincount(value, weights=length, minlength=size).astype(np.int64)
    known = np.flatnonzero(area).astype(np.int32)
    box = np.zeros((size, 4), np.int32)
    box[:, :2] = np.iinfo(np.int32).max
    # The runs go down the image, so that the first one of a label is its top, the last its bottom.
    box[value[::-1], 0] = y[::-1]
    box[value, 2] = y + 1
    np.minimum.at(box[:, 1], value, x.astype(np.int32))
    np.maximum.at(box[:, 3], value, (x + length).astype(np.int32))
    weights = (y * length, (x + (length - 1) / 2) * length)
    sums = np.stack([np.bincount(value, weights=part, minlength=size) for part in weights], axis=1)
    return LabelStatistics(known, area[known], sums[known] / area[known, np.newaxis], box[known])


def _runs(labels: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Find where each run of a label begins (flat), its label, and its length; background is left out."""
    begins = np.ones(labels.shape, np.bool_)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=begins[:, 1:])
    start = np.flatnonzero(begins)
    value, length = labels.ravel()[start], np.diff(start, append=labels.size)
    front = value > 0
    return start[front], value[front], length[front]


def _renumber(labels: NDArray[Any], kept: NDArray[np.bool_]) -> NDArray[np.int32]:
    kept[0] = False
    number = np.cumsum(kept, dtype=np.int32)
    number[~kept] = 0
    return np.asarray(np.take(number, labels), np.int32)
