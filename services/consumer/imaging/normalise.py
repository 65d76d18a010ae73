"""Intensities: the window of a whole plane, rescaling into it, and local contrast.

A window is found once over the whole plane and sent along with every block of it, so that blocks agree.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidInput

# The largest sample that is sorted for the percentiles of a float plane.
SAMPLE = 1 << 22
# cv2.calcHist counts in float32, which is exact up to 2**24: larger planes are counted in parts.
HISTOGRAM_PART = 1 << 24
# Grid and clip limit of CLAHE; the limit is the share of a tile's pixels that one of 256 bins may hold.
CLAHE_GRID = 8
CLAHE_LIMIT = 0.01


def plane_window(
    plane: NDArray[Any], *, low: float = 0.1, high: float = 99.9, nonzero: bool = False
) -> NDArray[np.float32]:
    """Find the intensities that become 0 and 1, per channel, over a whole plane.

    Args:
        plane: (H, W) or (H, W, C), any real dtype. NaN and infinities are left out of the count.
        low: percentile in 0..100 that becomes 0.
        high: percentile in 0..100 that becomes 1.
        nonzero: count pixels above zero only, and let zero itself become 0.

    Returns:
        float32 (C, 2): low and high of each channel. A channel that is constant, empty or has no finite
        value gets ``high == low``, which ``rescale`` turns into zeros.
    """
    channels = plane[..., np.newaxis] if plane.ndim == 2 else plane
    rows = [_window(channels[..., c], low, high, nonzero) for c in range(channels.shape[-1])]
    return np.array(rows, dtype=np.float32).reshape(-1, 2)


def rescale(plane: NDArray[Any], window: NDArray[np.float32]) -> NDArray[np.float32]:
    """Map a (H, W, C) plane linearly so that each channel's window becomes 0..1, clipped; float32.

    NaN becomes 0, infinities go to the near end. A channel whose window is empty becomes zeros.
    """
    out = np.empty(plane.shape, np.float32)
    for c, (low, high) in enumerate(np.asarray(window, np.float32)):
        if not high > low:
            out[..., c] = 0
            continue
        np.subtract(plane[..., c], low, out=out[..., c], casting="unsafe")
        out[..., c] *= np.float32(1) / (high - low)
    if plane.dtype.kind == "f":
        np.nan_to_num(out, copy=False, nan=0.0, posinf=1.0, neginf=0.0)
    return np.clip(out, 0, 1, out=out)


def to_wire(plane: NDArray[Any]) -> NDArray[Any]:
    """Bring a plane to a dtype the model server takes (uint8, uint16, float32) without losing intensities.

    Integers that fit 16 bits unsigned become uint16; all other numbers become float32.

    Raises:
        InvalidInput: the values are complex numbers, text or objects.
    """
    kind = plane.dtype.kind
    if plane.dtype in (np.uint8, np.uint16, np.float32):
        return plane
    if kind == "b":
        return plane.astype(np.uint8)
    if kind not in "iuf":
        raise InvalidInput(
            f"Pixels of type {plane.dtype} cannot be analysed; allowed are integers and floating-point numbers.",
            code="unsupported-dtype",
        )
    if kind in "iu" and plane.size and int(plane.min()) >= 0 and int(plane.max()) <= 65535:
        return plane.astype(np.uint16)
    with np.errstate(over="ignore"):
        return plane.astype(np.float32)


def equalise(plane: NDArray[Any], window: NDArray[np.float32] | None = None) -> NDArray[np.uint8]:
    """Contrast-limited adaptive histogram equalisation of each channel; same shape, uint8.

    For models whose card asks for it. The window (by default the channel's whole finite range) is brought to
    0..255 first. Method: Zuiderveld, "Contrast limited adaptive histogram equalization", Graphics Gems IV
    (1994), pp. 474-485, as in OpenCV, with a grid of 8 x 8 and at most 1 % of a tile's pixels in one bin.
    """
    channels = plane[..., np.newaxis] if plane.ndim == 2 else plane
    if window is None:
        window = plane_window(channels, low=0, high=100)
    out = [_equalise_channel(channels[..., c], window[c]) for c in range(channels.shape[-1])]
    return np.stack(out, axis=-1).reshape(plane.shape)


def _window(channel: NDArray[Any], low: float, high: float, nonzero: bool) -> tuple[float, float]:
    if channel.dtype == np.bool_:
        channel = channel.astype(np.uint8)
    if channel.size == 0:
        return 0.0, 0.0
    if channel.dtype in (np.uint8, np.uint16):
        pair = _by_histogram(channel, low, high, nonzero)
    else:
        pair = _by_sorting(channel, low, high, nonzero)
    # Neither end of the window may lose its order in float32, in which windows travel.
    first, last = np.float32(pair[0]), np.float32(pair[1])
    return (float(first), float(last)) if last > first else (float(first), float(first))


def _by_histogram(channel: NDArray[Any], low: float, high: float, nonzero: bool) -> tuple[float, float]:
    """Percentiles of an integer channel, exact up to the choice of the nearest value (no interpolation)."""
    counts = histogram(channel)
    if nonzero:
        counts[0] = 0
    total = int(counts.sum())
    if total == 0:
        return 0.0, 0.0
    cumulated = np.cumsum(counts)
    ranks = np.ceil(np.array([low, high]) / 100 * total).clip(1, total)
    first, last = (int(i) for i in np.searchsorted(cumulated, ranks))
    return (0.0 if nonzero else float(first)), float(last)


def histogram(channel: NDArray[Any]) -> NDArray[np.int64]:
    """Count the values of a uint8 or uint16 (H, W) channel: int64 (256,) or (65536,)."""
    size = 1 << (8 * channel.dtype.itemsize)
    counts = np.zeros(size, np.int64)
    rows = max(1, HISTOGRAM_PART // max(1, channel.shape[1]))
    for start in range(0, channel.shape[0], rows):
        part = np.ascontiguousarray(channel[start : start + rows])
        counts += cv2.calcHist([part], [0], None, [size], [0, size]).ravel().astype(np.int64)
    return counts


def _by_sorting(channel: NDArray[Any], low: float, high: float, nonzero: bool) -> tuple[float, float]:
    """Percentiles of a channel by partial sorting; of an even sample of it where it is large."""
    values = _sample(channel).astype(np.float64)
    values = values[np.isfinite(values)]
    if nonzero:
        values = values[values > 0]
    if values.size == 0:
        return 0.0, 0.0
    ranks = [min(values.size - 1, max(0, int(np.ceil(p / 100 * values.size)) - 1)) for p in (low, high)]
    values.partition(sorted(set(ranks)))
    return (0.0 if nonzero else float(values[ranks[0]])), float(values[ranks[1]])


def _sample(channel: NDArray[Any]) -> NDArray[Any]:
    """Return all values, or every k-th in both directions where there are more than ``SAMPLE``."""
    step = int(np.ceil(np.sqrt(channel.size / SAMPLE)))
    return channel[::step, ::step].ravel() if step > 1 else channel.ravel()


def _equalise_channel(channel: NDArray[Any], window: NDArray[np.float32]) -> NDArray[np.uint8]:
    unit = rescale(channel[..., np.newaxis], window[np.newaxis])[..., 0]
    grey = np.rint(unit * 255).astype(np.uint8)
    if grey.size == 0 or grey.min() == grey.max():
        return np.zeros_like(grey)
    grid = min(CLAHE_GRID, *grey.shape)
    # OpenCV's limit is relative to a flat histogram of 256 bins.
    clahe = cv2.createCLAHE(clipLimit=CLAHE_LIMIT * 256, tileGridSize=(grid, grid))
    return np.asarray(clahe.apply(grey), np.uint8)
