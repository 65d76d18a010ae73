"""Basins of a height map: hill climbing, h-maxima and their watershed in one pass over the pixels.

Every pixel points to the highest of its eight neighbours; following the pointers ends on a local maximum, whose
*basin* the pixel belongs to. Basins meet at *passes*. The rest happens on the small graph of basins and passes:
a maximum that rises less than ``h`` above the pass to something higher is no maximum of its own, and its basin
falls to the neighbour behind its highest pass.

Sources. Hill climbing gives the watershed by flooding (drop-of-water principle): Cousty, Bertrand, Najman,
Couprie, "Watershed cuts: minimum spanning forests and the drop of water principle", IEEE PAMI 31 (2009),
pp. 1362-1374. Flooding from markers: Meyer, "Topographic distance and watershed lines", Signal Processing 38
(1994), pp. 113-125. The h-maxima (Soille, Morphological Image Analysis, 2nd ed. 2003, section 6.3.4) are the
maxima whose *dynamics* is at least h: Grimaud, "A new measure of contrast: the dynamics", SPIE 1769 (1992),
pp. 292-305. They are usually found by grey-scale reconstruction (Vincent, IEEE Trans. Image Processing 2
(1993), pp. 176-201), which visits each pixel many times; the graph needs none of that.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from services.consumer.imaging.sets import find

# A pixel's place in the total order is height * 2**32 + index, exact in float64 (16 + 32 bits of 53).
INDEX_BITS = 32
# Pixels of a strip.
STRIP = 1 << 16
SQUARE = np.ones((3, 3), np.uint8)
STEPS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]

Graph = tuple[list[int], list[int], list[int]]


def label_basins(height: NDArray[np.uint16], mask: NDArray[np.bool_], h: int) -> NDArray[np.int32]:
    """Label each pixel under a mask with the h-maximum whose hill it belongs to.

    Args:
        height: uint16 (H, W).
        mask: bool (H, W): where objects are. What lies outside counts as height 0.
        h: the least height of a hill above the pass to a higher one, or above 0 where it stands alone.

    Returns:
        int32 (H, W): 0 outside the mask and on hills lower than ``h``, else 1..n in the order of the peaks
        from top to bottom; every label is one 8-connected piece.
    """
    pixels = np.flatnonzero(mask)
    if pixels.size == 0:
        return np.zeros(mask.shape, np.int32)
    peak_of = _climb(height, mask, pixels)
    peaks = np.flatnonzero(peak_of == np.arange(peak_of.size, dtype=np.int32))
    rank = np.zeros(peak_of.size, np.int32)
    rank[peaks] = np.arange(peaks.size, dtype=np.int32)
    basin = np.full(mask.shape, -1, np.int32)
    basin.ravel()[pixels] = basin_of = rank[peak_of]
    graph = _passes(basin, height, peaks.size)
    label_of = _choose(graph, height.ravel()[pixels[peaks]].tolist(), h)
    labels = np.zeros(mask.shape, np.int32)
    labels.ravel()[pixels] = label_of[basin_of]
    return labels


def _climb(height: NDArray[np.uint16], mask: NDArray[np.bool_], pixels: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the local maximum that each of ``pixels`` climbs to, as a position in ``pixels``: int32 (n,).

    Equal heights are ordered by index, so that a plateau has one way up; its pieces are joined again since
    the pass between them is as high as they are.
    """
    position = np.empty(mask.size, np.int32)
    position[pixels] = np.arange(pixels.size, dtype=np.int32)
    climbs = position[_highest_neighbours(height, mask, pixels.size)]
    while True:
        further = climbs[climbs]
        if np.array_equal(further, climbs):
            return climbs
        climbs = further


def _highest_neighbours(height: NDArray[np.uint16], mask: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """Return, for each of the ``count`` pixels under the mask, the flat index of the highest of its square.

    Works in strips that stay in the processor's cache.
    """
    rows, columns = mask.shape
    found = np.empty(count, np.int64)
    filled = 0
    step = max(1, STRIP // max(1, columns))
    for top in range(0, rows, step):
        bottom = min(rows, top + step)
        first, last = max(0, top - 1), min(rows, bottom + 1)
        key = np.arange(first * columns, last * columns, dtype=np.float64).reshape(last - first, columns)
        key += height[first:last] * float(1 << INDEX_BITS)
        key *= mask[first:last]
        highest = cv2.dilate(key, SQUARE)[top - first : bottom - first][mask[top:bottom]]
        found[filled : filled + highest.size] = highest.astype(np.int64) & ((1 << INDEX_BITS) - 1)
        filled += highest.size
    return found


def _passes(basin: NDArray[np.int32], height: NDArray[np.uint16], count: int) -> Graph:
    """Find the highest pass between each pair of touching basins, as a maximum spanning forest.

    Args:
        basin: int32 (H, W): -1 outside the mask.
        height: uint16 (H, W).
        count: of basins.

    Returns:
        Three lists: one basin, the other, the height of the pass; by falling height.
    """
    # The cost of a pass falls with its height and is never 0, which a sparse matrix would not store. Of several
    # passes between two basins the highest comes first after sorting; the others are left out.
    crossings = np.sort(_crossings(basin, height), kind="stable")  # which is quick where much is in order already
    pair = crossings >> 16
    first = np.append(True, pair[1:] != pair[:-1])[: pair.size]
    cost = (crossings[first] & 0xFFFF) + 1
    row, column = (pair[first] >> 24).astype(np.int32), (pair[first] & 0xFFFFFF).astype(np.int32)
    graph = coo_array((cost.astype(np.float64), (row, column)), shape=(count, count))
    tree = minimum_spanning_tree(graph.tocsr()).tocoo()
    order = np.argsort(tree.data, kind="stable")
    falling = (65536 - tree.data[order]).astype(np.int64)
    return tree.row[order].tolist(), tree.col[order].tolist(), falling.tolist()


def _crossings(basin: NDArray[np.int32], height: NDArray[np.uint16]) -> NDArray[np.uint64]:
    """Return all neighbours that lie in different basins: uint64 (n,), each lower basin << 40 | higher << 16 | cost.

    The cost is 65535 less the height of the pass. Basins are fewer than 2**24: a block cannot have more maxima.
    """
    columns = basin.shape[1] + 2
    # Numbers are exact in float32 up to 2**24.
    numbers = cv2.copyMakeBorder(basin.astype(np.float32), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=-1)
    around = cv2.copyMakeBorder(height, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0).ravel()
    edge = (cv2.dilate(numbers, SQUARE) > numbers) & (numbers >= 0)
    place = np.flatnonzero(edge)
    numbers = numbers.ravel()
    here, level = numbers[place], around[place]
    lower = here.astype(np.uint64) << 40
    found: list[NDArray[np.uint64]] = []
    for dy, dx in STEPS:
        neighbour = place + (dy * columns + dx)
        there = numbers[neighbour]
        higher = np.flatnonzero(there > here)
        cost = 65535 - np.minimum(level[higher], around[neighbour[higher]])
        found.append(lower[higher] | there[higher].astype(np.uint64) << 16 | cost)
    return np.concatenate(found)


def _choose(graph: Graph, peaks: list[int], h: int) -> NDArray[np.int32]:
    """Decide which peaks are h-maxima and which label each basin gets: int32 (basins,)."""
    kept = _h_maxima(graph, peaks, h)
    heir = list(range(len(peaks)))
    marked = kept.copy()
    for one, other, _ in zip(*graph, strict=True):
        a, b = find(heir, one), find(heir, other)
        if marked[a] and marked[b]:
            continue
        if marked[b]:
            a, b = b, a
        heir[b] = a
    number = np.cumsum(kept, dtype=np.int32) * np.array(kept, np.int32)
    return np.asarray(number[[find(heir, basin) for basin in range(len(peaks))]], np.int32)


def _h_maxima(graph: Graph, peaks: list[int], h: int) -> list[bool]:
    """Tell for each peak whether its dynamics is at least ``h``."""
    kept = [peak >= h for peak in peaks]
    parent = list(range(len(peaks)))
    for one, other, level in zip(*graph, strict=True):
        a, b = find(parent, one), find(parent, other)
        if peaks[a] < peaks[b]:
            a, b = b, a
        if peaks[b] - level < h:
            kept[b] = False
        parent[b] = a  # the root of a set is its highest peak
    return kept
