"""An image file opened, and the array file that it is copied to.

A format opens a file, reads its header only, and says what is in it (`Source`). Once that has passed the limits
and the axes are decided, the source writes its pixels, piece by piece, in its own order of axes, to a `Target`,
which lays them out as (B, C, Y, X).
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.consumer.imaging.axes import CHANNEL, SPATIAL, STACKED, Axes
from services.consumer.imaging.mapped import let_go

Region = tuple[Any, ...]
"""An index of an array: slices and whole numbers, perhaps an ellipsis."""

#: Bytes of a piece that is read or copied at once.
PIECE = 1 << 24
#: Bytes written through the mapping before they are let go from the resident set.
KEPT = 1 << 25


@dataclass(frozen=True)
class Source:
    """What a file's header says, and how to get at its pixels."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    write: Callable[[Target], None]
    """Writes all pixels to a target."""
    axes: str = ""
    """One letter for each axis (see `imaging.axes`), ``?`` where the file does not say; "" where it says nothing."""
    pixel_size_um: float | None = None
    channel_names: tuple[str, ...] = field(default=())
    sure: str | None = None
    """What of ``axes`` holds against the user's word; None for all of it."""


class Target:
    """A .npy file of (B, C, Y, X) that is written in the order of axes of a source.

    Args:
        path: to write.
        source: what will be written.
        axes: the decided order of the source's axes.

    Raises:
        OSError: the disk is full; found before the first pixel is written.
    """

    def __init__(self, path: Path, source: Source, axes: Axes) -> None:
        stacks, channels, plane = (axes.of(kind) for kind in (STACKED, CHANNEL, SPATIAL))
        layout = (*stacks, *channels, *plane)
        self.path = path
        self.shape = stacked(source.shape, axes)
        self.dtype = np.dtype(np.uint8) if source.dtype.kind == "b" else source.dtype.newbyteorder("=")
        self._written = 0
        created = np.lib.format.open_memmap(path, "w+", self.dtype, self.shape)
        self.offset = created.offset
        del created
        _allocate(path)
        stored = tuple(source.shape[axis] for axis in layout)
        self._mapped = np.memmap(path, self.dtype, "r+", self.offset, stored)
        self._view = np.asarray(self._mapped).transpose(np.argsort(layout))

    def write(
        self, piece: NDArray[Any], region: Region = (), *, lead: Region = (), shaped: tuple[int, ...] | None = None
    ) -> None:
        """Write a piece of the source's array.

        Args:
            piece: pixels.
            region: where they belong.
            lead: places on the first axes that the region does not count; all are whole numbers.
            shaped: the shape in which the region counts the other axes, as theirs but for axes of length 1.
        """
        view = self._view[lead]
        if shaped is not None:
            view = view.reshape(shaped, copy=False)
        view[region] = piece
        self._written += piece.size * self.dtype.itemsize
        if self._written > KEPT:
            let_go(self._mapped)
            self._written = 0

    def close(self) -> None:
        """Close the mapping."""
        del self._view, self._mapped


def stacked(shape: tuple[int, ...], axes: Axes) -> tuple[int, int, int, int]:
    """Return planes, channels, rows and columns of an array of a shape with decided axes."""
    planes, channels = (math.prod(shape[axis] for axis in axes.of(kind)) for kind in (STACKED, CHANNEL))
    rows, columns = (shape[axis] for axis in axes.of(SPATIAL))
    return planes, channels, rows, columns


def pieces(shape: tuple[int, ...], itemsize: int, limit: int = PIECE) -> Iterator[Region]:
    """Cut an array into contiguous regions of at most ``limit`` bytes each (or of one entry), in order."""
    inner = math.prod(shape[1:]) * itemsize
    if not shape or inner * shape[0] <= limit:
        yield ()
    elif inner > limit:
        for i in range(shape[0]):
            for rest in pieces(shape[1:], itemsize, limit):
                yield (i, *rest)
    else:
        step = limit // inner
        for start in range(0, shape[0], step):
            yield (slice(start, min(start + step, shape[0])),)


def copy_raw(
    path: Path,
    offset: int,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    target: Target,
    *,
    fortran: bool = False,
    change: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
) -> None:
    """Copy an uncompressed array within a file to a target, in pieces.

    Args:
        path: of the file.
        offset: of its first byte there.
        dtype: with its byte order.
        shape: of the array.
        target: to write to.
        fortran: whether the first axis varies fastest.
        change: what to do to each piece.
    """
    stored = shape[::-1] if fortran else shape
    with path.open("rb") as file:
        file.seek(offset)
        for region in pieces(stored, dtype.itemsize):
            extent = _extent(region, stored)
            piece = np.fromfile(file, dtype, math.prod(extent)).reshape(extent)
            piece = change(piece) if change else piece
            if fortran:
                target.write(piece.T, (..., *region[::-1]))
            else:
                target.write(piece, region)


def _extent(region: Region, shape: tuple[int, ...]) -> tuple[int, ...]:
    cut = [part.stop - part.start for part in region if isinstance(part, slice)]
    return (*cut, *shape[len(region) :])


def _allocate(path: Path) -> None:
    """Take the room on disk now: writing through a mapping to a full disk would end the process."""
    with path.open("r+b") as file, contextlib.suppress(AttributeError):
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
