"""Synthetic cells in two channels, nuclei and membrane or cytoplasm, with exact truth for both.

Nuclei are drawn as in ``nuclei``; each gets the pixels that are nearest to it, up to the reach of its own cell, with
borders bent by noise. The second channel shows each cell's membrane, its cytoplasm, or both, as bright as that cell
happens to be, through its own optics and sensor. Some cells show no nucleus, as in a section.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from services.triton.training.nuclei import Scene, draw_look, expose, fill, smooth_noise

DIAMETERS = (9.0, 24.0)  # mean of the nuclei of a scene, in pixels at the model's scale

Image = NDArray[np.float32]


def cells_scene(rng: np.random.Generator, size: int, diameter: tuple[float, float] = DIAMETERS) -> Scene:
    """A scene of ``size`` x ``size`` pixels, of cells whose nuclei have a mean diameter within ``diameter`` pixels.

    Channels: nuclear, membrane or cytoplasm. Labels: whole cells, nuclei.
    """
    look = draw_look(rng, diameter)
    nuclei = np.zeros((size, size), np.int32)
    light = np.zeros((size, size), np.float32)
    if rng.random() > 0.03:
        fill(rng, look, nuclei, light)
    cells = _grow(rng, nuclei, look.diameter)
    _hide_some(rng, nuclei, light)
    body = _body(rng, cells, nuclei)
    if rng.random() < 0.25:  # the stains shine into each other's channel
        light += rng.uniform(0.02, 0.15) * body
    if rng.random() < 0.25:
        body += rng.uniform(0.02, 0.2) * light
    channels = np.stack((expose(rng, light, look), expose(rng, body, look)))
    return Scene(channels, np.stack((cells, nuclei)))


def _grow(rng: np.random.Generator, nuclei: NDArray[np.int32], diameter: float) -> NDArray[np.int32]:
    """Whole cells around ``nuclei``, with the same numbers: int32 (H, W)."""
    count = int(nuclei.max())
    if not count:
        return nuclei.copy()
    outside = (nuclei == 0).astype(np.uint8)
    away, nearest = cv2.distanceTransformWithLabels(outside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    owner_of = np.zeros(int(nearest.max()) + 1, np.int32)
    owner_of[nearest[outside == 0]] = nuclei[outside == 0]
    owner, away = _bend(rng, owner_of[nearest], away, diameter)
    reach = diameter * rng.uniform(0.12, 0.9) * np.exp(rng.normal(0, rng.uniform(0.1, 0.4), count + 1))
    ragged = 1 + rng.uniform(0.05, 0.3) * smooth_noise(rng, nuclei.shape, diameter * rng.uniform(0.3, 0.8))
    cells = np.where(away * ragged <= reach[owner], owner, 0)
    cells = np.where(nuclei > 0, nuclei, cells).astype(np.int32)
    return _without_scraps(cells)


def _bend(
    rng: np.random.Generator, owner: NDArray[np.int32], away: Image, diameter: float
) -> tuple[NDArray[np.int32], Image]:
    """Move each pixel a little, so that borders between cells are not straight."""
    size = owner.shape[0]
    strength = diameter * rng.uniform(0.0, 0.15)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    x += strength * smooth_noise(rng, owner.shape, diameter * 0.5)
    y += strength * smooth_noise(rng, owner.shape, diameter * 0.5)
    moved = cv2.remap(owner.astype(np.float32), x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    far = cv2.remap(away, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return moved.astype(np.int32), np.asarray(far, np.float32)


def _without_scraps(cells: NDArray[np.int32]) -> NDArray[np.int32]:
    """Each cell's largest piece alone."""
    result = np.zeros_like(cells)
    for number in np.unique(cells[cells > 0]):
        ys, xs = np.nonzero(cells == number)
        part = (slice(ys.min(), ys.max() + 1), slice(xs.min(), xs.max() + 1))
        count, pieces = cv2.connectedComponents((cells[part] == number).astype(np.uint8), connectivity=4)
        largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:])) if count > 1 else 1
        result[part][pieces == largest] = number
    return result


def _hide_some(rng: np.random.Generator, nuclei: NDArray[np.int32], light: Image) -> None:
    """Take a few nuclei away, in place; their cells stay."""
    share = rng.choice([0.0, 0.05, 0.15])
    hidden = rng.random(int(nuclei.max()) + 1) < share
    hidden[0] = False
    gone = hidden[nuclei]
    light[gone] = 0
    nuclei[gone] = 0


def _body(rng: np.random.Generator, cells: NDArray[np.int32], nuclei: NDArray[np.int32]) -> Image:
    """The light of the second channel: membrane, cytoplasm or both."""
    numbers = cells.astype(np.float32)
    square = np.ones((3, 3), np.uint8)
    edge = ((cv2.dilate(numbers, square) != cv2.erode(numbers, square)) & (cells > 0)).astype(np.float32)
    kind = rng.choice(3, p=[0.4, 0.3, 0.3])  # membrane, cytoplasm, both
    membrane = (rng.uniform(0.6, 1.5), 0.0, rng.uniform(0.3, 1.2))[kind]
    inside = (rng.uniform(0.0, 0.12), rng.uniform(0.5, 1.2), rng.uniform(0.2, 0.8))[kind]
    bright = np.exp(rng.normal(0, rng.uniform(0.1, 0.6), int(cells.max()) + 1))
    grain = np.clip(1 + rng.uniform(0, 0.5) * smooth_noise(rng, cells.shape, rng.uniform(1.5, 5)), 0.1, 3)
    filled = inside * grain * (cells > 0)
    filled[nuclei > 0] *= rng.uniform(0.2, 1.0)
    patchy = np.clip(1 + rng.uniform(0, 0.5) * smooth_noise(rng, cells.shape, rng.uniform(4, 12)), 0.05, 3)
    light = (membrane * patchy * edge + filled) * bright[cells]
    return np.asarray(cv2.GaussianBlur(light.astype(np.float32), (0, 0), rng.uniform(0.4, 1.0)), np.float32)
