"""The small picture of a result: a grey plane with the outlines of its cells, made once and shown in lists."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.consumer.imaging.mapped import let_go
from services.consumer.imaging.normalise import plane_window
from services.consumer.writing.grey import real, stretched
from services.consumer.writing.png import write_png

#: Source pixels that are averaged at once.
_PIXELS = 1 << 22
#: Rows of labels that are read before their pages are let go.
_ROWS = 16
#: Pixels on a side of the picture that are enough to find its window.
_SIDE = 200
#: Greys of the picture; few, so that it travels fast.
_GREYS = 64
_OUTLINE = (255, 240, 94)


def write_preview(image_yx: NDArray[Any], labels_yx: NDArray[Any] | None, path: Path, limit: int = 480) -> None:
    """Write a picture of a plane, from the 0.1th to the 99.9th percentile, as PNG.

    Args:
        image_yx: (Y, X), any real dtype; a memory map is read in strips.
        labels_yx: integers (Y, X), 0 background, whose inner edges are drawn; None for none.
        path: to write.
        limit: pixels on the longer side, at most.
    """
    rows, columns = image_yx.shape
    share = min(1.0, limit / max(rows, columns))
    size = max(1, round(rows * share)), max(1, round(columns * share))
    small = real(image_yx) if (rows, columns) == size else _reduce(image_yx, size)
    step = max(1, max(size) // _SIDE)
    pixels = stretched(small, plane_window(small[::step, ::step])) // (256 // _GREYS)
    if labels_yx is not None:
        pixels[_edges(_nearest(labels_yx, size))] = _GREYS
    greys = [(level, level, level) for level in (255 * n // (_GREYS - 1) for n in range(_GREYS))]
    write_png(path, pixels, np.array([*greys, _OUTLINE], np.uint8))


def _reduce(image: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    """Average a plane down to a size: squares of a whole number of pixels first, strip by strip; float32."""
    rows, columns = image.shape
    side = max(1, math.floor(min(rows / size[0], columns / size[1])))
    width = columns // side
    height = rows // side
    out = np.empty((height, width), np.float32)
    step = max(1, _PIXELS // (columns * side))
    for top in range(0, height, step):
        bottom = min(height, top + step)
        strip = real(image[top * side : bottom * side, : width * side])
        out[top:bottom] = cv2.resize(strip, (width, bottom - top), interpolation=cv2.INTER_AREA)
        let_go(image)
    return np.asarray(cv2.resize(out, size[::-1], interpolation=cv2.INTER_AREA), np.float32)


def _nearest(labels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    if labels.shape == size:
        return labels
    y, x = (
        ((np.arange(short) + 0.5) * full / short).astype(np.int64)
        for short, full in zip(size, labels.shape, strict=True)
    )
    small = np.empty(size, labels.dtype)
    for row, place in enumerate(y.tolist()):
        small[row] = labels[place, x]
        if row % _ROWS == 0:
            let_go(labels)
    return small


def _edges(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the pixels of labels that touch another label or background."""
    edge = np.zeros(labels.shape, np.bool_)
    down, across = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    return edge & (labels > 0)
