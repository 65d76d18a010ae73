"""Cut an image into overlapping tiles and put their results together without a seam."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Plan:
    """Tiles of one size that cover an image: where each begins along rows and columns."""

    tile: tuple[int, int]
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def places(self) -> Iterator[tuple[int, int]]:
        """Top and left of each tile; may reach beyond the image where that is smaller than the tile."""
        return ((y, x) for y in self.rows for x in self.columns)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)


def plan(shape: tuple[int, int], tile: int, overlap: float, multiple: int, *, fixed: bool = False) -> Plan:
    """As few tiles as cover ``shape``, none larger than ``tile``, each as small as that allows.

    Neighbours share at least ``overlap`` (a share of the tile); sides are multiples of ``multiple`` pixels, or
    ``tile`` itself if ``fixed``.
    """
    (high, rows), (wide, columns) = (_along(n, tile, overlap, multiple, fixed) for n in shape)
    return Plan((high, wide), rows, columns)


def _along(length: int, tile: int, overlap: float, multiple: int, fixed: bool) -> tuple[int, tuple[int, ...]]:
    shared = int(tile * overlap)
    count = 1 if length <= tile else math.ceil((length - shared) / (tile - shared))
    side = tile
    if not fixed:
        needed = length if count == 1 else (length + (count - 1) * shared) / count
        side = min(tile, math.ceil(needed / multiple) * multiple)
    if count == 1:
        return side, (0,)
    return side, tuple(round(place * (length - side) / (count - 1)) for place in range(count))


def cut(image: NDArray[np.float32], tiles: Plan) -> Iterator[NDArray[np.float32]]:
    """The tiles of float32 (C, h, w), each (C, tile height, tile width); what is missing is mirrored in."""
    height, width = image.shape[1:]
    below, right = max(0, tiles.tile[0] - height), max(0, tiles.tile[1] - width)
    padded = np.pad(image, ((0, 0), (0, below), (0, right)), mode="symmetric") if below or right else image
    for y, x in tiles.places():
        yield padded[:, y : y + tiles.tile[0], x : x + tiles.tile[1]]


class Blend:
    """The weighted mean of overlapping tiles.

    A tile counts fully in its own part and fades out towards its neighbours as a raised cosine, so that the
    result changes smoothly from one tile to the next.
    """

    def __init__(self, shape: tuple[int, int], channels: int, tiles: Plan) -> None:
        self._sum = np.zeros((channels, *shape), np.float32)
        self._tiles = tiles
        self._shape = shape
        self._rows = _fades(tiles.rows, tiles.tile[0], shape[0])
        self._columns = _fades(tiles.columns, tiles.tile[1], shape[1])

    def add(self, place: tuple[int, int], result: NDArray[np.float32]) -> None:
        """Add the result (channels, tile height, tile width) of the tile that begins at ``place``."""
        y, x = place
        if len(self._tiles) == 1:
            self._sum[...] = result[:, : self._shape[0], : self._shape[1]]
            return
        height = min(result.shape[1], self._shape[0] - y)
        width = min(result.shape[2], self._shape[1] - x)
        weight = np.outer(self._rows[y][:height], self._columns[x][:width])
        self._sum[:, y : y + height, x : x + width] += result[:, :height, :width] * weight

    def result(self) -> NDArray[np.float32]:
        """The blended maps, float32 (channels, h, w); right once every tile of the plan was added."""
        return self._sum


def _fades(places: tuple[int, ...], side: int, length: int) -> dict[int, NDArray[np.float32]]:
    """For each place along one axis the weights of its pixels; over all places they add up to 1."""
    raw = {place: _fade(place, places, side) for place in places}
    total = np.zeros(max(length, side), np.float64)
    for place, weights in raw.items():
        total[place : place + side] += weights
    return {p: (w / total[p : p + side]).astype(np.float32) for p, w in raw.items()}


def _fade(place: int, places: tuple[int, ...], side: int) -> NDArray[np.float64]:
    weights = np.ones(side)
    index = places.index(place)
    if index > 0:
        shared = places[index - 1] + side - place
        weights[:shared] *= _ramp(shared)
    if index < len(places) - 1:
        shared = place + side - places[index + 1]
        weights[side - shared :] *= _ramp(shared)[::-1]
    return weights


def _ramp(length: int) -> NDArray[np.float64]:
    return 0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / max(length, 1))
