"""Cells and their nuclei: which nucleus belongs to which cell, and one numbering for both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fastremap
import numpy as np
from numpy.typing import NDArray

from services.consumer.imaging.mapped import let_go

#: A nucleus belongs to a cell only with at least this share of its pixels.
LEAST_SHARE = 0.25
#: Pixels that are worked on at once.
STRIP = 1 << 22


def match_nuclei(cells: NDArray[np.int32], nuclei: NDArray[np.int32]) -> int:
    """Give every nucleus the number of its cell, in place; both images may be memory maps.

    A nucleus belongs to the cell that holds most of its pixels. Several nuclei of one cell get one number. A nucleus
    without a cell becomes one, since no cell lacks the room its nucleus takes. Pixels of a nucleus outside its cell
    are added to the cell where they are background, and are no longer the nucleus's where they are another cell.

    Args:
        cells: int32 (H, W), 0 background. Afterwards 1..n without gaps, cells with a nucleus first.
        nuclei: int32 (H, W), 0 background. Afterwards 1..k without gaps, nucleus i in cell i.

    Returns:
        How many cells have a nucleus: k.
    """
    most_cells, most_nuclei = (int(image.max(initial=0)) for image in (cells, nuclei))
    owner = _owners(cells, nuclei, most_cells, most_nuclei)
    nucleated = np.zeros(int(owner.max(initial=0)) + 1, np.bool_)
    present = np.zeros(max(most_cells, nucleated.size - 1) + 1, np.bool_)
    for part, inner in _strips(cells, nuclei):
        mine = owner[inner]
        part[...] = np.where((part == 0) & (mine > 0), mine, part)
        inner[...] = np.where(part == mine, mine, 0)
        present[fastremap.unique(part)] = True
        nucleated[fastremap.unique(inner)] = True
    present[0] = nucleated[0] = False
    number = _numbers(present, nucleated)
    for part, inner in _strips(cells, nuclei):
        part[...] = number[part]
        inner[...] = number[inner]
    return int(nucleated.sum())


def _owners(
    cells: NDArray[np.int32], nuclei: NDArray[np.int32], most_cells: int, most_nuclei: int
) -> NDArray[np.int32]:
    """Return the cell of each nucleus: int32 (nuclei + 1,); those without one get numbers above all cells."""
    area = np.zeros(most_nuclei + 1, np.int64)
    pairs: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    counts: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for part, inner in _strips(cells, nuclei):
        of = inner[inner > 0].astype(np.int64)
        area += np.bincount(of, minlength=area.size)
        both = part[inner > 0].astype(np.int64)
        pair, count = fastremap.unique((of << 32 | both)[both > 0], return_counts=True)
        pairs.append(pair.astype(np.int64))
        counts.append(count.astype(np.int64))
    pair, place = np.unique(np.concatenate(pairs), return_inverse=True)
    shared = np.bincount(place, weights=np.concatenate(counts)).astype(np.int64)
    nucleus, cell = pair >> 32, (pair & 0xFFFFFFFF).astype(np.int32)
    order = np.lexsort((shared, nucleus))
    owner = np.zeros(most_nuclei + 1, np.int32)
    fits = shared >= LEAST_SHARE * area[nucleus]
    order = order[fits[order]]
    owner[nucleus[order]] = cell[order]  # the last of each nucleus is the cell with most of it
    alone = np.flatnonzero((area > 0) & (owner == 0))
    owner[alone] = most_cells + 1 + np.arange(alone.size, dtype=np.int32)
    return owner


def _numbers(present: NDArray[np.bool_], nucleated: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the new number of each cell: 1..k those with a nucleus, then the others, in their old order."""
    with_nucleus = np.zeros_like(present)
    with_nucleus[: nucleated.size] = nucleated
    others = present & ~with_nucleus
    first = np.cumsum(with_nucleus, dtype=np.int32)
    then = np.cumsum(others, dtype=np.int32) + first[-1]
    return np.where(with_nucleus, first, np.where(others, then, 0)).astype(np.int32)


def _strips(cells: NDArray[Any], nuclei: NDArray[Any]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    step = max(1, STRIP // max(1, cells.shape[1]))
    for top in range(0, cells.shape[0], step):
        yield cells[top : top + step], nuclei[top : top + step]
        let_go(cells)
        let_go(nuclei)
