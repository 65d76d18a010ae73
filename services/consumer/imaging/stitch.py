"""Big planes in blocks: cutting with a halo, and joining labels so that no seam shows.

Each block is labelled on its own, with a halo of its neighbours' pixels around it. What two neighbouring blocks
say of the strip that both of them see tells which labels are the same object.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.consumer.imaging.sets import find

# Two blocks mean the same object where they agree on more than this share (intersection over union) of what both
# see of it. Above one half an object can have only one partner.
AGREEMENT = 0.5
# Pixels that the second pass renumbers at a time.
PART = 1 << 24


@dataclass(frozen=True)
class Block:
    """One piece of a plane; all lengths in pixels."""

    row: int
    column: int
    core: tuple[slice, slice]
    """The pixels this block alone answers for."""
    outer: tuple[slice, slice]
    """The core and its halo, cut at the plane's edge."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the outer part."""
        return self.outer[0].stop - self.outer[0].start, self.outer[1].stop - self.outer[1].start


def blocks(shape: tuple[int, int], block: int, halo: int) -> Iterator[Block]:
    """Cut a plane into blocks of about equal cores, row by row.

    Args:
        shape: (H, W) of the plane.
        block: the most pixels on a side of a block, halo included.
        halo: pixels that a block sees of its neighbours on each side.

    Raises:
        ValueError: the halo leaves no core.
    """
    rows, columns = (_spans(length, block, halo) for length in shape)
    for row, (core_y, outer_y) in enumerate(rows):
        for column, (core_x, outer_x) in enumerate(columns):
            yield Block(row, column, (core_y, core_x), (outer_y, outer_x))


class Stitcher:
    """Joins the labels of blocks into one label image.

    Blocks may come in any order; in the order of ``blocks`` at most one row of them is remembered, as strips.

    Args:
        out: int32 (H, W), zeros; an array or a memory map, written in parts.
        halo: as the plane was cut.
        min_size: objects of fewer pixels are removed, after joining.
    """

    def __init__(self, out: NDArray[np.int32], halo: int, *, min_size: float = 0) -> None:
        self._out = out
        self._halo = halo
        self._min_size = max(1.0, min_size)
        self._areas: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
        self._count = 0
        self._strips: dict[tuple[tuple[int, int], tuple[int, int]], _Strip] = {}
        self._same: list[NDArray[np.int64]] = [np.zeros((0, 2), np.int64)]

    def add(self, block: Block, labels: NDArray[np.int32]) -> None:
        """Write a block's labels: int32, the shape of its outer part, 0 background, 1..n."""
        if labels.shape != block.shape:
            raise ValueError(f"labels of shape {labels.shape} for a block of shape {block.shape}")
        found = int(labels.max(initial=0))
        shifted = np.where(labels > 0, labels + np.int32(self._count), np.int32(0))
        top, left = block.outer[0].start, block.outer[1].start
        core = shifted[
            block.core[0].start - top : block.core[0].stop - top,
            block.core[1].start - left : block.core[1].stop - left,
        ]
        self._out[block.core] = core
        self._areas.append(np.bincount(core.ravel(), minlength=self._count + found + 1)[self._count + 1 :])
        self._count += found
        for neighbour in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            self._meet(block, shifted, neighbour)

    def finish(self) -> int:
        """Give every object one number, 1..n without gaps, remove the small ones, return n."""
        number = self._numbers()
        step = max(1, PART // max(1, self._out.shape[1]))
        for start in range(0, self._out.shape[0], step):
            part = self._out[start : start + step]
            part[...] = number[part]
        return int(number.max(initial=0))

    def _meet(self, block: Block, labels: NDArray[np.int32], step: tuple[int, int]) -> None:
        """Compare with a neighbour's strip if that has come, else leave ours for it."""
        region = self._strip_region(block, step)
        if region is None:
            return
        top, left = block.outer[0].start, block.outer[1].start
        ours = labels[region[0].start - top : region[0].stop - top, region[1].start - left : region[1].stop - left]
        here = (block.row, block.column)
        there = (block.row + step[0], block.column + step[1])
        theirs = self._strips.pop((there, here), None)
        if theirs is None:
            self._strips[here, there] = _Strip(region, ours.copy())
            return
        self._same.append(_partners(*_common(_Strip(region, ours), theirs)))

    def _strip_region(self, block: Block, step: tuple[int, int]) -> tuple[slice, slice] | None:
        """Return the part of the plane around the seam that both blocks see, or None at the plane's edge."""
        region = []
        for axis in (0, 1):
            core, outer = block.core[axis], block.outer[axis]
            if step[axis] == 0:
                region.append(outer)
                continue
            seam = core.stop if step[axis] > 0 else core.start
            if seam in (0, self._out.shape[axis]):
                return None
            region.append(slice(max(outer.start, seam - self._halo), min(outer.stop, seam + self._halo)))
        return region[0], region[1]

    def _numbers(self) -> NDArray[np.int32]:
        """Return the final number of each preliminary one: int32 (count + 1,)."""
        parent = list(range(self._count + 1))
        for one, other in np.concatenate(self._same).tolist():
            a, b = find(parent, one), find(parent, other)
            parent[max(a, b)] = min(a, b)
        roots = np.array([find(parent, i) for i in range(len(parent))])
        area = np.bincount(roots, weights=np.concatenate(self._areas), minlength=len(parent))
        kept = (area >= self._min_size) & (roots == np.arange(len(parent)))
        kept[0] = False
        number = np.cumsum(kept, dtype=np.int32) * kept
        return np.asarray(number[roots], np.int32)


@dataclass(frozen=True)
class _Strip:
    region: tuple[slice, slice]
    labels: NDArray[np.int32]


def _spans(length: int, block: int, halo: int) -> list[tuple[slice, slice]]:
    """Cut one axis: core and outer of each piece. One piece needs no halo."""
    if length <= block:
        return [(slice(0, length), slice(0, length))]
    core = block - 2 * halo
    if core < 1 or halo < 1:
        raise ValueError(f"a halo of {halo} pixels leaves no core in blocks of {block}")
    count = -(-length // core)
    edges = [length * i // count for i in range(count + 1)]
    return [(slice(a, b), slice(max(0, a - halo), min(length, b + halo))) for a, b in itertools.pairwise(edges)]


def _common(one: _Strip, other: _Strip) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Cut two strips to the pixels that both have."""
    cut = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one.region, other.region, strict=True)]
    parts = []
    for strip in (one, other):
        (top, left) = (axis.start for axis in strip.region)
        parts.append(strip.labels[cut[0].start - top : cut[0].stop - top, cut[1].start - left : cut[1].stop - left])
    return parts[0], parts[1]


def _partners(ours: NDArray[np.int32], theirs: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return pairs of labels that are the same object: int64 (n, 2)."""
    pixels = np.flatnonzero((ours > 0) | (theirs > 0))
    a, b = ours.ravel()[pixels].astype(np.int64), theirs.ravel()[pixels].astype(np.int64)
    pairs, shared = np.unique(a << 32 | b, return_counts=True)
    a, b = pairs >> 32, pairs & 0xFFFFFFFF
    both = (a > 0) & (b > 0)
    of_a, of_b = _sum_by(a, shared), _sum_by(b, shared)
    union = of_a + of_b - shared
    same = both & (shared > AGREEMENT * union)
    return np.stack([a[same], b[same]], axis=1)


def _sum_by(keys: NDArray[np.int64], values: NDArray[Any]) -> NDArray[Any]:
    """Sum values over equal keys; the sum stands at each of them."""
    _, index = np.unique(keys, return_inverse=True)
    return np.bincount(index, weights=values)[index]
