"""What the page's viewer reads: one file of tiles in all sizes, taken piece by piece with byte ranges.

The file holds deflated parts in any order, then the manifest (deflated JSON), then 16 bytes: the manifest's length as
uint64 and ``cellview``; all numbers little-endian. Where the manifest names a part, it gives ``[start, bytes]``.

A picture of height H and width W is stored in levels, each half as large as the one before, the last of at most 256
pixels a side; a level is cut into tiles of 512 pixels a side, less at the right and bottom. A tile's rows hold their
difference from the row above, as in PNG. Pixels of images are uint8 between the two intensities of the channel's
window, averaged where reduced; labels are uint16 or uint32, one of four where reduced, so that they stay numbers.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.consumer.imaging.labels import LabelStatistics, statistics
from services.consumer.imaging.mapped import let_go
from services.consumer.writing.deflate import compress
from services.consumer.writing.grey import stretched

TILE = 512
#: Pixels on a side from which there is a further level.
_SMALLEST = 256
#: Pixels that are measured at once: each takes some 40 bytes.
_MEASURED = 1 << 20
_END = b"cellview"
Part = list[int]


class ViewWriter:
    """Writes one view. Its methods may be called from several threads at once; `close` comes last."""

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        """Begin a file for planes of a shape (H, W)."""
        self._path = path
        path.write_bytes(b"")
        self._lock = threading.Lock()
        self._shape = shape
        self._images: dict[str, dict[str, Any]] = {}
        self._labels: dict[str, dict[str, Any]] = {}
        self._points: dict[str, dict[str, Any]] = {}
        self._tracks: Part | None = None

    def image(self, plane: int, channel: int, pixels: NDArray[Any], window: NDArray[np.float32]) -> None:
        """Add a channel of a plane.

        Args:
            plane: its number, from 0.
            channel: its number, from 0.
            pixels: (H, W), any real dtype; a memory map is read in bands.
            window: float32 (1, 2), the intensities that become 0 and 255.
        """
        bands = (stretched(band, window) for band in _bands(pixels))
        self._images[f"{plane}/{channel}"] = {"levels": self._pyramid(bands, _averaged)}

    def labels(self, plane: int, layer: int, labels: NDArray[Any]) -> None:
        """Add labels, integers (H, W), 0 background, with a table of what is known of each.

        The table's columns, each of ``count`` numbers of four bytes, one after the other: uint32 id, area (square
        pixels), left, top, right, bottom (exclusive); float32 x and y of the centroid.
        """
        found = _measured(labels)
        count = len(found.labels)
        dtype = np.dtype("<u4" if count and int(found.labels[-1]) > 65535 else "<u2")
        top, left, bottom, right = found.boxes.T
        columns = [column.astype("<u4") for column in (found.labels, found.areas, left, top, right, bottom)]
        columns += [column.astype("<f4").view("<u4") for column in found.centroids.T[::-1]]
        self._labels[f"{plane}/{layer}"] = {
            "type": dtype.str[1:],
            "count": count,
            "cells": self._add(compress(np.stack(columns).tobytes())),
            "levels": self._pyramid((band.astype(dtype) for band in _bands(labels)), _thinned),
        }

    def points(self, plane: int, positions: NDArray[np.float64], cells: NDArray[np.int32] | None) -> None:
        """Add points: float (n, 2) of y and x, and the cell that each lies in (0: none), or None where unknown.

        Stored as columns of four bytes a number: float32 x, y; uint32 cell.
        """
        inside = np.zeros(len(positions), "<u4") if cells is None else cells.astype("<u4")
        columns = np.stack([*positions.T[::-1].astype("<f4").view("<u4"), inside])
        part = self._add(compress(columns.tobytes()))
        self._points[str(plane)] = {"count": len(positions), "assigned": cells is not None, "part": part}

    def tracks(self, lineage: Mapping[str, Mapping[str, Any]]) -> None:
        """Add a lineage, as the tracker gives it; stored as JSON rows: id, first plane, last plane, parent or 0."""
        rows = [[t["label"], t["frames"][0], t["frames"][-1], t["parent"] or 0] for t in lineage.values()]
        self._tracks = self._add(compress(json.dumps(rows).encode()))

    def close(self, about: Mapping[str, Any]) -> None:
        """Write the manifest, with what else is to be said of the image, which ends the file."""
        rows, columns = self._shape
        manifest = {
            **about,
            "height": rows,
            "width": columns,
            "tile": TILE,
            "images": self._images,
            "labels": self._labels,
            "points": self._points,
            "tracks": self._tracks,
        }
        packed = compress(json.dumps(manifest, separators=(",", ":")).encode())
        self._add(packed + struct.pack("<Q", len(packed)) + _END)

    def _pyramid(self, bands: Iterator[NDArray[Any]], halve: Any) -> list[dict[str, Any]]:
        levels = _level_sizes(self._shape)
        tiles: list[Part] = [[] for _ in levels]
        waiting: list[list[NDArray[Any]]] = [[] for _ in levels]

        def take(level: int, band: NDArray[Any], *, last: bool) -> None:
            waiting[level].append(band)
            if not last and sum(map(len, waiting[level])) < TILE:
                return
            rows = waiting[level][0] if len(waiting[level]) == 1 else np.concatenate(waiting[level])
            waiting[level].clear()
            for left in range(0, rows.shape[1], TILE):
                tiles[level] += self._add(_packed(rows[:, left : left + TILE]))
            if level + 1 < len(levels):
                take(level + 1, halve(rows), last=last)

        seen = 0
        for band in bands:
            seen += len(band)
            take(0, band, last=seen >= self._shape[0])
        return [
            {"height": rows, "width": columns, "tiles": parts}
            for (rows, columns), parts in zip(levels, tiles, strict=True)
        ]

    def _add(self, data: bytes) -> Part:
        with self._lock, self._path.open("ab") as file:
            start = file.tell()
            file.write(data)
        return [start, len(data)]


def _level_sizes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    sizes = [shape]
    while max(sizes[-1]) > _SMALLEST:
        rows, columns = sizes[-1]
        sizes.append((-(-rows // 2), -(-columns // 2)))
    return sizes


def _bands(plane: NDArray[Any], rows: int = TILE) -> Iterator[NDArray[Any]]:
    """Yield bands of a height; what was read of a memory map leaves the resident set."""
    for top in range(0, plane.shape[0], rows):
        yield plane[top : top + rows]
        let_go(plane)


def _packed(tile: NDArray[Any]) -> bytes:
    rows = np.empty_like(tile, order="C")
    rows[0] = tile[0]
    np.subtract(tile[1:], tile[:-1], out=rows[1:])
    return compress(rows.tobytes())


def _averaged(band: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = band.shape
    even = cv2.copyMakeBorder(band, 0, rows % 2, 0, columns % 2, cv2.BORDER_REPLICATE)
    size = even.shape[1] // 2, even.shape[0] // 2
    return np.asarray(cv2.resize(even, size, interpolation=cv2.INTER_AREA), np.uint8)


def _thinned(band: NDArray[Any]) -> NDArray[Any]:
    return band[::2, ::2]


def _measured(labels: NDArray[Any]) -> LabelStatistics:
    """Measure band by band, so that of a memory map little is held at once."""
    rows = max(1, _MEASURED // labels.shape[1])
    bands = []
    for number, band in enumerate(_bands(labels, rows)):
        found = statistics(np.asarray(band, np.int32))
        down = np.array([number * rows, 0])
        bands.append((found, found.centroids + down, found.boxes + np.tile(down.astype(np.int32), 2)))
    if len(bands) == 1:
        return bands[0][0]
    areas = np.concatenate([found.areas for found, _, _ in bands])
    known, place = np.unique(np.concatenate([found.labels for found, _, _ in bands]), return_inverse=True)
    total = np.bincount(place, weights=areas, minlength=len(known))
    centres = np.concatenate([centroids for _, centroids, _ in bands])
    sums = [np.bincount(place, weights=areas * part, minlength=len(known)) for part in centres.T]
    every = np.concatenate([boxes for _, _, boxes in bands])
    boxes = np.tile(np.array([np.iinfo(np.int32).max] * 2 + [0, 0], np.int32), (len(known), 1))
    np.minimum.at(boxes[:, :2], place, every[:, :2])
    np.maximum.at(boxes[:, 2:], place, every[:, 2:])
    return LabelStatistics(known, total.astype(np.int64), np.stack(sums, axis=1) / total[:, np.newaxis], boxes)
