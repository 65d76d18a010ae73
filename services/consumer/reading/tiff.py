"""TIFF in all its forms: classic and BigTIFF, OME, ImageJ, LSM, strips and tiles, pyramids, any compression.

The first series of the highest resolution is read; where a file holds several images the largest is taken. What
can be decoded piece by piece is: a piece is a strip or a tile, and uncompressed pixels are copied as they are.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from services.consumer.imaging.axes import MAX_CHANNELS
from services.consumer.reading.directories import check_directories
from services.consumer.reading.limits import ReadLimits, check_piece, check_shape
from services.consumer.reading.source import Source, Target, copy_raw
from services.consumer.reading.tiffmeta import channel_names, pixel_size_um
from shared.errors import InvalidInput

# Bytes of compressed segments that are read in one go.
_READ = 1 << 24
# Axes of tifffile that are stacks here; its other letters (Q, I, A, E, H, L ...) say nothing that we use.
_STACKS = "PRMV"
_PLAIN = "YXCSTZ"

Change = Callable[[NDArray[Any]], NDArray[Any]]


@contextlib.contextmanager
def open_tiff(path: Path, limits: ReadLimits) -> Iterator[Source]:
    """Open a TIFF file.

    Raises:
        InvalidInput: damaged, truncated, too large, or of a kind that is not supported.
    """
    check_directories(path)
    with contextlib.ExitStack() as stack:
        file, series = _open(path, stack)
        page = series.keyframe
        shape = tuple(int(length) for length in series.shape)
        dtype = np.dtype(series.dtype)
        check_shape(shape, dtype, limits)
        _check_pages(series, path.stat().st_size)
        change = _inverted if page.photometric == 0 and dtype.kind in "bu" else None
        if series.dataoffset is not None:
            write = _raw(path, file, series, shape, change)
        else:
            _check_segment(page, dtype, limits)
            write = _segments(series, shape, change)
        axes = _named(series)
        # Where pages were not named, an array may have been cut into them along any axis: the user knows.
        sure = "".join("?" if letter in "YX" else letter for letter in axes) if set(series.axes) & set("QI") else axes
        yield Source(shape, dtype, write, axes, pixel_size_um(file, page), channel_names(file, series), sure)


def _open(path: Path, stack: contextlib.ExitStack) -> tuple[Any, Any]:
    """Return the open file and its largest series; without its OME metadata where that speaks of other files."""
    try:
        file = stack.enter_context(tifffile.TiffFile(path, _multifile=False))
        series = _largest(file)
        if not any(page is None for page in series):
            return file, series
    except InvalidInput:
        raise
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise
    file = stack.enter_context(tifffile.TiffFile(path, _multifile=False, is_ome=False))
    return file, _largest(file)


def _largest(file: Any) -> Any:
    found = [series for series in file.series if series.size]
    if not found:
        raise InvalidInput("The TIFF file holds no image.", code="no-pixels")
    # Of equals the first: images after it are masks or thumbnails more often than not.
    return max(found, key=lambda series: series.size)


def _named(series: Any) -> str:
    """Return the names of the axes as far as the file is sure of them."""
    axes = str(series.axes)
    # An array that was written without names has its last two axes called Y and X, even where they cannot be.
    unsure = series.kind == "shaped" and "Q" in axes and series.shape[-1] <= MAX_CHANNELS < series.shape[-2]
    names = ""
    for letter in axes:
        if letter in _PLAIN and not (unsure and letter in "YX"):
            names += letter
        elif letter in _STACKS and "B" not in names:
            names += "B"
        else:
            names += "?"
    return names


def _check_pages(series: Any, size: int) -> None:
    """Refuse pixels that lie outside the file, before the room for them is taken."""
    for page in series:
        if page is None or not page.dataoffsets:
            raise InvalidInput("The TIFF file is damaged: a page has no pixels.", code="damaged")
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
            if count and offset + count > size:
                raise InvalidInput(
                    "The TIFF file is truncated: pixels that it speaks of lie beyond its end.", code="damaged"
                )
    if series.dataoffset is not None and series.dataoffset + series.nbytes > size:
        raise InvalidInput("The TIFF file is truncated: pixels that it speaks of lie beyond its end.", code="damaged")


def _check_segment(page: Any, dtype: np.dtype[Any], limits: ReadLimits) -> None:
    if page.is_tiled:
        rows, columns = max(1, page.tilelength), max(1, page.tilewidth)
        depth = max(1, page.tiledepth)
    else:
        rows, columns, depth = min(page.rowsperstrip or page.imagelength, page.imagelength), page.imagewidth, 1
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    size = depth * rows * columns * max(1, samples) * dtype.itemsize
    # Compressed bytes, decoded pixels and a copy.
    check_piece(2 * size + max(page.databytecounts), limits, "Decoding one strip or tile of the TIFF file")


def _raw(path: Path, file: Any, series: Any, shape: tuple[int, ...], change: Change | None) -> Callable[[Target], None]:
    dtype = np.dtype(series.dtype).newbyteorder(file.byteorder)

    def write(target: Target) -> None:
        copy_raw(path, series.dataoffset, dtype, shape, target, change=change)

    return write


def _segments(series: Any, shape: tuple[int, ...], change: Change | None) -> Callable[[Target], None]:
    page = series.keyframe
    leading = _leading(shape, len(series), math.prod(page.shaped))

    def write(target: Target) -> None:
        for number, one in enumerate(series):
            lead = tuple(int(i) for i in np.unravel_index(number, leading)) if leading else ()
            _write_page(one, page, target, lead, change)

    return write


def _write_page(one: Any, page: Any, target: Target, lead: tuple[int, ...], change: Change | None) -> None:
    depth, rows, columns = page.shaped[1:4]
    try:
        for segment, (s, d, y, x, _), extent in one.segments(maxworkers=1, buffersize=_READ, _fullsize=False):
            region = (s, slice(d, d + extent[0]), slice(y, y + extent[1]), slice(x, x + extent[2]))
            piece = np.full((1, 1, 1, 1), page.nodata, page.dtype) if segment is None else segment
            piece = piece[: depth - d, : rows - y, : columns - x]
            target.write(change(piece) if change else piece, region, lead=lead, shaped=page.shaped)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise InvalidInput(_cannot(page, error), code="damaged") from error


def _cannot(page: Any, error: Exception) -> str:
    kind = getattr(page.compression, "name", str(page.compression)).lower()
    if isinstance(error, NotImplementedError) or "not supported" in str(error) or "unknown" in str(error).lower():
        return f"The TIFF file's compression or pixel layout ({kind}) is not supported."
    return f"The TIFF file is damaged: its pixels ({kind}) could not be decoded."


def _leading(shape: tuple[int, ...], pages: int, of_page: int) -> tuple[int, ...]:
    """Return the axes of a series that count its pages."""
    for count in range(len(shape) + 1):
        if math.prod(shape[:count]) == pages and math.prod(shape[count:]) == of_page:
            return shape[:count]
    raise InvalidInput(
        "The TIFF file is damaged: its pages do not make up the image that it describes.", code="damaged"
    )


def _inverted(piece: NDArray[Any]) -> NDArray[Any]:
    """Turn samples that count from white into samples that count from black."""
    return np.asarray(np.invert(piece))
