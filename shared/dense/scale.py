"""How large the objects of an image are, so that it can be brought to the size that a network knows."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.dense.card import ModelCard

LARGEST = 1024  # pixels along a side that are looked at; of a larger plane, the middle
SMALLEST_MASK = 20  # foreground pixels below which nothing is said
BIAS = 1.16  # measured on synthetic nuclei (services/triton/training): the estimate over the median diameter


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

    ``plane`` is (H, W) of any real dtype. The foreground is what is brighter than Otsu's threshold and than its
    own surroundings; the mean distance of its pixels to the edge is a sixth of the diameter, as for a disk.
    Objects that touch hardly disturb this, and small debris hardly counts.
    """
    image = _unit(_middle(plane))
    if image is None:
        return 0.0
    _, mask = cv2.threshold((image * 255).astype(np.uint8), 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    diameter = _mask_diameter(mask)
    for _ in range(2):
        if not diameter:
            return 0.0
        around = cv2.GaussianBlur(image, (0, 0), max(3.0, diameter))
        diameter = _mask_diameter(mask & (image > around))
    return diameter / BIAS


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


def _mask_diameter(mask: NDArray[np.uint8]) -> float:
    if int(mask.sum()) < SMALLEST_MASK:
        return 0.0
    depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    return float(6 * depth[mask > 0].mean())
