"""Spots: bright points a few pixels wide, such as single molecules in a smFISH image.

A spot is a local maximum of the image's negative, scale-normalised Laplacian of Gaussian, which answers most to
blobs of the chosen width and to no flat or evenly rising background (Lindeberg, "Feature detection with automatic
scale selection", Int. J. Computer Vision 30 (1998), pp. 79-116). What counts as bright is measured against the
answer's own noise, its scaled median absolute deviation, so that no threshold depends on the camera. Positions are
refined below the pixel by a parabola through the maximum and its neighbours along each axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.consumer.imaging.mapped import let_go

#: Pixels of a strip that is worked on at once.
STRIP = 1 << 22
#: Standard deviations after which a Gaussian is cut off.
REACH = 4.0
#: Strips in which the noise is measured.
SAMPLES = 8
#: Median absolute deviation of a normal distribution, in standard deviations.
MAD = 0.6745
#: A spot answers at least this share of the strongest answer, where the background has no noise at all.
LEAST = 1e-3


@dataclass(frozen=True)
class SpotParams:
    """Which spots are looked for."""

    sigma: float = 1.5
    """Standard deviation of a spot; pixels. A diffraction-limited spot has about 0.21 wavelength / aperture."""
    threshold: float = 6.0
    """Least answer of a spot in standard deviations of the noise."""


@dataclass(frozen=True)
class Spots:
    """What was found, from top to bottom; nothing in the outermost pixels of the image."""

    positions: NDArray[np.float64]
    """float64 (n, 2): y, x in pixels; whole numbers are the middles of pixels."""
    intensities: NDArray[np.float64]
    """float64 (n,): the answer, in the image's own units: about half a spot's height above its surroundings."""


def detect_spots(plane: NDArray[Any], params: SpotParams | None = None) -> Spots:
    """Find spots on a plane.

    Args:
        plane: (H, W), any real dtype; a memory map is read in strips. NaN and infinities count as 0.
        params: width and threshold.
    """
    params = params or SpotParams()
    if plane.size == 0:
        return Spots(np.zeros((0, 2)), np.zeros(0))
    noise, strongest = _noise(plane, params.sigma)
    least = max(params.threshold * noise, LEAST * strongest, float(np.finfo(np.float32).tiny))
    positions, intensities = [np.zeros((0, 2))], [np.zeros(0)]
    for top, bottom in _strips(plane.shape):
        first, answer = _answer(plane, top, bottom, params.sigma)
        # At the image's edge a rising background would look like a spot: a maximum needs neighbours all around.
        own = max(top, 1) - first, min(bottom, plane.shape[0] - 1) - first
        found, height = _maxima(answer, *own, least)
        positions.append(found + np.array([first, 0]))
        intensities.append(height)
    return Spots(np.concatenate(positions), np.concatenate(intensities))


def assign_to_cells(positions: NDArray[np.float64], labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the label under each position: int32 (n,), 0 for background and outside the image.

    Args:
        positions: float (n, 2): y, x in pixels.
        labels: int32 (H, W).
    """
    nearest = np.rint(positions).astype(np.int64)
    inside = ((nearest >= 0) & (nearest < labels.shape)).all(axis=1)
    found = np.zeros(len(positions), np.int32)
    found[inside] = labels[nearest[inside, 0], nearest[inside, 1]]
    return found


def _strips(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    step = max(1, STRIP // max(1, shape[1]))
    for top in range(0, shape[0], step):
        yield top, min(shape[0], top + step)


def _noise(plane: NDArray[Any], sigma: float) -> tuple[float, float]:
    """Return the standard deviation of the answer's noise and the strongest answer, from a sample of strips."""
    strips = list(_strips(plane.shape))
    deviations, strongest = [], 0.0
    for top, bottom in strips[:: max(1, len(strips) // SAMPLES)]:
        first, answer = _answer(plane, top, bottom, sigma)
        own = answer[top - first : bottom - first]
        step = max(1, math.isqrt(own.size >> 20))
        deviations.append(float(np.median(np.abs(own[::step, ::step]))))
        strongest = max(strongest, float(own.max()))
    return float(np.median(deviations)) / MAD, strongest


def _answer(plane: NDArray[Any], top: int, bottom: int, sigma: float) -> tuple[int, NDArray[np.float32]]:
    """Return the answer of rows ``top`` to ``bottom`` and what they need around them, and the first row of it."""
    halo = math.ceil(REACH * sigma) + 1
    first, last = max(0, top - halo), min(plane.shape[0], bottom + halo)
    with np.errstate(over="ignore"):
        part = plane[first:last].astype(np.float32)
    let_go(plane)
    if plane.dtype.kind == "f":
        np.nan_to_num(part, copy=False, nan=0, posinf=0, neginf=0)
    smooth, second = _kernels(sigma)
    answer = cv2.sepFilter2D(part, cv2.CV_32F, smooth, second, borderType=cv2.BORDER_REFLECT)
    answer += cv2.sepFilter2D(part, cv2.CV_32F, second, smooth, borderType=cv2.BORDER_REFLECT)
    answer *= np.float32(-(sigma**2))
    return first, answer


def _kernels(sigma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a Gaussian and its second derivative, sampled; the latter adds up to 0, so that flat areas give 0."""
    reach = math.ceil(REACH * sigma)
    x = np.arange(-reach, reach + 1, dtype=np.float64)
    smooth = np.exp(-(x**2) / (2 * sigma**2))
    smooth /= smooth.sum()
    second = (x**2 / sigma**4 - 1 / sigma**2) * smooth
    return smooth, second - second.mean()


def _maxima(
    answer: NDArray[np.float32], top: int, bottom: int, least: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return refined positions and heights of the maxima in rows ``top`` to ``bottom`` that reach ``least``."""
    highest = cv2.dilate(answer, np.ones((3, 3), np.uint8))
    y, x = np.nonzero((answer == highest) & (answer >= least))
    own = (y >= top) & (y < bottom) & (x > 0) & (x < answer.shape[1] - 1)
    y, x = y[own], x[own]
    height = answer[y, x].astype(np.float64)
    y, x, height = _one_of_each_plateau(y, x, height)
    offset = [
        _vertex(answer[y - 1, x], height, answer[y + 1, x]),
        _vertex(answer[y, x - 1], height, answer[y, x + 1]),
    ]
    return np.stack([y + offset[0], x + offset[1]], axis=1), height


def _one_of_each_plateau(
    y: NDArray[np.int64], x: NDArray[np.int64], height: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Keep the first of neighbouring maxima, which are of equal height."""
    if y.size < 2:
        return y, x, height
    taken = set(zip(y.tolist(), x.tolist(), strict=True))
    before = ((-1, -1), (-1, 0), (-1, 1), (0, -1))
    kept = [
        not any((a + dy, b + dx) in taken for dy, dx in before) for a, b in zip(y.tolist(), x.tolist(), strict=True)
    ]
    return y[kept], x[kept], height[kept]


def _vertex(before: NDArray[Any], here: NDArray[np.float64], after: NDArray[Any]) -> NDArray[np.float64]:
    """Return where a parabola through three neighbours is highest, -0.5..0.5 from the middle one."""
    bend = 2 * here - before - after
    offset = np.divide(after.astype(np.float64) - before, 2 * bend, out=np.zeros_like(here), where=bend > 0)
    return np.asarray(offset.clip(-0.5, 0.5))
