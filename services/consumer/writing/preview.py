"""What the page draws: a small grey picture of a plane and its labels as colours."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.consumer.imaging.mapped import let_go
from services.consumer.imaging.normalise import plane_window, rescale
from services.consumer.writing.png import write_png

#: Source pixels that are averaged at once.
_PIXELS = 1 << 22
#: Pixels from which percentiles are found, at least.
_SAMPLE = 1 << 18
#: Rows of labels that are read before their pages are let go.
_ROWS = 256


def write_preview(
    image_yx: NDArray[Any], labels_yx: NDArray[Any] | None, folder: Path, limit: int = 2048
) -> tuple[Path, Path | None]:
    """Write ``preview.png`` and, where there are labels, ``labels.png``, of one size.

    Args:
        image_yx: (Y, X), any real dtype; a memory map is read in strips.
        labels_yx: integers (Y, X) below 2**24, 0 background; None for none.
        folder: to write into.
        limit: pixels on the longer side, at most.

    Returns:
        The picture, uint8, from the 0.1th to the 99.9th percentile; and the labels, RGB with the label's number
        as r + 256 g + 65536 b, each pixel that of the nearest in the image.
    """
    rows, columns = image_yx.shape
    share = min(1.0, limit / max(rows, columns))
    size = max(1, round(rows * share)), max(1, round(columns * share))
    picture = folder / "preview.png"
    write_png(picture, _grey(image_yx if image_yx.shape == size else _reduce(image_yx, size)))
    if labels_yx is None:
        return picture, None
    coloured = folder / "labels.png"
    write_png(coloured, _as_rgb(_nearest(labels_yx, size)))
    return picture, coloured


def _grey(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Stretch a plane between its percentiles to 0..255."""
    if image.dtype in (np.uint8, np.uint16):
        # There are few values: each is stretched once.
        values = np.arange(1 << (8 * image.dtype.itemsize), dtype=np.float32)
        return np.asarray(_stretch(values, plane_window(image))[image])
    real = _real(image)
    step = max(1, math.isqrt(real.size // _SAMPLE))
    return _stretch(real, plane_window(real[::step, ::step]))


def _stretch(values: NDArray[np.float32], window: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(rescale(values[..., np.newaxis], window)[..., 0] * 255).astype(np.uint8)


def _reduce(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Average a plane down to a size: squares of a whole number of pixels first, strip by strip; float32."""
    rows, columns = image.shape
    side = max(1, math.floor(min(rows / size[0], columns / size[1])))
    width = columns // side
    height = rows // side
    out = np.empty((height, width), np.float32)
    step = max(1, _PIXELS // (columns * side))
    for top in range(0, height, step):
        bottom = min(height, top + step)
        strip = _real(image[top * side : bottom * side, : width * side])
        out[top:bottom] = cv2.resize(strip, (width, bottom - top), interpolation=cv2.INTER_AREA)
        let_go(image)
    return np.asarray(cv2.resize(out, size[::-1], interpolation=cv2.INTER_AREA), np.float32)


def _real(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return float32; what is not finite or out of its range becomes 0."""
    with np.errstate(over="ignore"):
        real = np.asarray(image, np.float32)
    if image.dtype.kind == "f":
        real = np.nan_to_num(real, nan=0, posinf=0, neginf=0)
    return real


def _nearest(labels: NDArray[Any], size: tuple[int, int]) -> NDArray[np.uint32]:
    y, x = (
        ((np.arange(short) + 0.5) * full / short).astype(np.int64)
        for short, full in zip(size, labels.shape, strict=True)
    )
    if labels.shape == size:
        return np.asarray(labels, np.uint32)
    small = np.empty(size, np.uint32)
    for row, place in enumerate(y.tolist()):
        small[row] = labels[place, x]
        if row % _ROWS == 0:
            let_go(labels)
    return small


def _as_rgb(labels: NDArray[np.uint32]) -> NDArray[np.uint8]:
    parts = np.ascontiguousarray(labels, "<u4")[..., np.newaxis].view(np.uint8)
    return np.asarray(cv2.cvtColor(parts, cv2.COLOR_RGBA2RGB), np.uint8)
