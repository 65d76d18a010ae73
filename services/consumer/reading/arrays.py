"""NumPy's .npy and .npz files; never those that hold Python objects."""

from __future__ import annotations

import contextlib
import math
import tempfile
import tokenize
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from services.consumer.reading.limits import ReadLimits, check_shape
from services.consumer.reading.source import Source, Target, copy_raw
from shared.errors import InvalidInput

# Names under which images are kept in .npz files, in the order of preference; else the first array.
_NAMES = ("raw", "image", "X", "arr_0")
_HEADER = 10_000
#: What NumPy raises on a header that is none.
BAD_HEADER = (ValueError, TypeError, SyntaxError, OverflowError, RecursionError, EOFError, tokenize.TokenError)
_PIECE = 1 << 20


@contextlib.contextmanager
def open_npy(path: Path, limits: ReadLimits) -> Iterator[Source]:
    """Open an .npy file of numbers, of any byte order and either order of axes in memory.

    Raises:
        InvalidInput: damaged, truncated, too large, or not an array of numbers.
    """
    with path.open("rb") as file:
        shape, fortran, dtype = _header(file)
        offset = file.tell()
    check_shape(shape, dtype, limits)
    size = path.stat().st_size - offset
    needed = math.prod(shape) * dtype.itemsize
    if size < needed:
        raise InvalidInput(
            f"The .npy file is truncated: it holds {size:,} bytes of the {needed:,} that its header speaks of.",
            code="damaged",
        )

    def write(target: Target) -> None:
        copy_raw(path, offset, dtype, shape, target, fortran=fortran)

    yield Source(shape, dtype, write)


@contextlib.contextmanager
def open_npz(path: Path, limits: ReadLimits) -> Iterator[Source]:
    """Open the image of an .npz file: the array called raw, image, X or arr_0, else the first one.

    Raises:
        InvalidInput: as for `open_npy`, or there is no array in it.
    """
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(prefix="kiosk-npz-") as folder:
            names = [info.filename for info in archive.infolist() if info.filename.endswith(".npy")]
            if not names:
                raise InvalidInput("The .npz file holds no array.", code="no-pixels")
            chosen = next((f"{name}.npy" for name in _NAMES if f"{name}.npy" in names), names[0])
            unpacked = Path(folder) / "array.npy"
            _extract(archive, chosen, unpacked, limits)
            with open_npy(unpacked, limits) as source:
                yield source
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise InvalidInput("The .npz file is damaged or truncated.", code="damaged") from error
    except RuntimeError as error:
        if "password" in str(error):
            raise InvalidInput("The .npz file is encrypted.", code="encrypted") from error
        raise


def _extract(archive: zipfile.ZipFile, name: str, target: Path, limits: ReadLimits) -> None:
    info = archive.getinfo(name)
    with archive.open(info) as member:
        shape, _, dtype = _header(member)
    check_shape(shape, dtype, limits)
    left = math.prod(shape) * dtype.itemsize + 2 * _HEADER
    with archive.open(info) as member, target.open("wb") as out:
        while left > 0 and (piece := member.read(min(left, _PIECE))):
            left -= len(piece)
            out.write(piece)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file, max_header_size=_HEADER)
    except BAD_HEADER as error:
        raise InvalidInput("The NumPy file is damaged: its header is not valid.", code="damaged") from error
    if dtype.hasobject:
        raise InvalidInput(
            "The NumPy file holds Python objects; allowed are integers and floating-point numbers.",
            code="unsupported-dtype",
        )
    if any(not isinstance(length, int) or length < 0 for length in shape):
        raise InvalidInput("The NumPy file is damaged: its header is not valid.", code="damaged")
    return tuple(shape), fortran, dtype
