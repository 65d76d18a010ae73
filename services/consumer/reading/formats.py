"""Which format a file has, by its first bytes and never by its name, and the decoding of one file."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from services.consumer.imaging.axes import STACKED, Axes, decide
from services.consumer.reading.arrays import open_npy, open_npz
from services.consumer.reading.decoded import Decoded
from services.consumer.reading.limits import ReadLimits, check_shape, check_stack
from services.consumer.reading.pictures import open_jpeg, open_png
from services.consumer.reading.source import Source, Target, stacked
from services.consumer.reading.tiff import open_tiff
from services.consumer.reading.zarr import is_zarr, open_zarr
from shared.errors import InvalidInput

Open = Callable[[Path, ReadLimits], AbstractContextManager[Source]]

#: What is said to be allowed.
ALLOWED = "PNG, JPEG, TIFF, NPY, NPZ and zipped OME-Zarr"
_FIRST: tuple[tuple[bytes, Open], ...] = (
    (b"\x89PNG\r\n\x1a\n", open_png),
    (b"\xff\xd8\xff", open_jpeg),
    (b"II*\0", open_tiff),
    (b"MM\0*", open_tiff),
    (b"II+\0", open_tiff),
    (b"MM\0+", open_tiff),
    (b"\x93NUMPY", open_npy),
)
# Others that people send, so that the sentence can name them.
_OTHERS = (
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"%PDF", "a PDF document"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"ZISRAWFILE", "a Zeiss CZI file"),
    (b"\xda\xce\xbe\x0a", "a Nikon ND2 file"),
    (b"\x70\x00\x00\x00", "a Leica LIF file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"RIFF", "a WebP image or a film"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"<svg", "an SVG drawing"),
)


def decode(source: Path, target: Path, limits: ReadLimits, dimension_order: str = "") -> Decoded:
    """Decode an image file into a .npy file of (B, C, Y, X).

    Raises:
        InvalidInput: anything about the file or the order is wrong; one sentence says what.
    """
    with format_of(source)(source, limits) as image:
        check_shape(image.shape, image.dtype, limits)
        holds = image.sure if dimension_order.strip() and image.sure is not None else image.axes
        axes = decide(image.shape, holds, dimension_order)
        check_stack(stacked(image.shape, axes), image.dtype.itemsize, limits)
        out = Target(target, image, axes)
        try:
            image.write(out)
        finally:
            out.close()
    return Decoded(
        path=target,
        shape=out.shape,
        dtype=out.dtype.str,
        offset=out.offset,
        dim_order=axes.order if axes.order in ("ZYX", "TYX") else axes.dim_order,
        batch_axis=_batch_axis(image.shape, axes),
        pixel_size_um=image.pixel_size_um,
        channel_names=image.channel_names if len(image.channel_names) == out.shape[1] else (),
    )


def format_of(path: Path) -> Open:
    """Return what opens a file; raises InvalidInput where nothing does."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise InvalidInput("The file is empty.", code="empty")
    for first, opener in _FIRST:
        if head.startswith(first):
            return opener
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zipped(path)
    raise InvalidInput(f"The file is {_looks_like(head)}; allowed are {ALLOWED}.", code="not-an-image")


def _zipped(path: Path) -> Open:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise InvalidInput("The file is a damaged or truncated zip file.", code="damaged") from error
    if is_zarr(names):
        return open_zarr
    if names and all(name.endswith(".npy") for name in names):
        return open_npz
    raise InvalidInput(
        "The file is a zip archive, not an image; name it .zip to have each image in it analysed.", code="not-an-image"
    )


def _looks_like(head: bytes) -> str:
    for first, name in _OTHERS:
        if head.startswith(first):
            return name
    if not any(head):
        return "no image (it begins with zeros only)"
    printable = sum(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head)
    return "a text" if printable > 0.9 * len(head) else "no image in a format that is known"


def _batch_axis(shape: tuple[int, ...], axes: Axes) -> str:
    letters = [letter for letter, length in zip(axes.order, shape, strict=True) if letter in STACKED and length > 1]
    return "" if not letters else letters[0] if len(letters) == 1 else "B"
