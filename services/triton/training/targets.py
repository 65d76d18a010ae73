"""From a label image to what the network learns."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def inner_distance(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """How deep each pixel lies inside its own object: float32 (H, W), 1 at the middle, 0 outside.

    With d the distance to the object's edge over its largest value there: d (2 - d), a dome that is steep at the edge
    and flat inside, times a slow fall away from the middle. Touching objects have a valley between them, while a long
    or notched one has hardly any across its waist. Close in spirit to the inner distance of Greenwald et al., Nature
    Biotechnology 40 (2022), p. 555 (methods, model architecture).
    """
    result = np.zeros(labels.shape, np.float32)
    for number, (rows, columns) in _boxes(labels):
        mask = np.pad(labels[rows, columns] == number, 1)
        depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
        middle = np.unravel_index(int(np.argmax(cv2.GaussianBlur(depth, (0, 0), 1.0))), depth.shape)
        y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
        away = np.hypot(y - middle[0], x - middle[1])
        away /= max(float((away * mask).max()), 1.0)
        depth /= max(float(depth.max()), 1.0)
        value = depth * (2 - depth) * (1 - 0.3 * away) * mask
        result[rows, columns] += value[1:-1, 1:-1].astype(np.float32)
    return result


def border_weight(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Weight of each pixel in the loss: float32 (H, W), 1, and up to 3 where two objects touch or nearly do."""
    numbers = labels.astype(np.float32)
    kernel = np.ones((5, 5), np.uint8)
    highest = cv2.dilate(numbers, kernel)
    lowest = cv2.erode(np.where(labels == 0, np.float32(1e9), numbers), kernel)
    near_two = ((lowest < 1e9) & (highest != lowest)).astype(np.float32)
    return np.asarray(1 + 2 * cv2.GaussianBlur(near_two, (0, 0), 1.0), np.float32)


def _boxes(labels: NDArray[np.int32]) -> list[tuple[int, tuple[slice, slice]]]:
    ys, xs = np.nonzero(labels)
    numbers = labels[ys, xs]
    count = int(labels.max()) + 1
    low = np.full((2, count), np.iinfo(np.int64).max)
    high = np.full((2, count), -1)
    for axis, values in enumerate((ys, xs)):
        np.minimum.at(low[axis], numbers, values)
        np.maximum.at(high[axis], numbers, values)
    return [
        (n, (slice(low[0, n], high[0, n] + 1), slice(low[1, n], high[1, n] + 1)))
        for n in range(1, count)
        if high[0, n] >= 0
    ]
