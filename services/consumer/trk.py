"""Movies that are segmented already: ``.trk`` (one movie) and ``.trks`` (several), tar files of NumPy arrays.

Members: ``raw.npy`` and ``tracked.npy``, (T, Y, X, 1), in a ``.trks`` (B, T, Y, X, 1); lineage as JSON, which is not
read: linking anew is what the job is for.
"""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidInput

ENDINGS = (".trk", ".trks")
_PIECE = 1 << 20


@dataclass(frozen=True)
class Segmented:
    """A movie and its label images, both mapped from files: (T, Y, X)."""

    raw: NDArray[Any]
    labels: NDArray[Any]


def read_trk(path: Path, scratch: Path, limit: int) -> Segmented:
    """Read a segmented movie; its arrays become files in ``scratch`` of at most ``limit`` bytes each.

    Raises:
        InvalidInput: it is no such file, too large, or holds more than one movie.
    """
    try:
        with tarfile.open(path) as archive:
            files = {Path(member.name).name: member for member in archive if member.isfile()}
            arrays = [_array(archive, files.get(f"{name}.npy"), scratch, limit) for name in ("raw", "tracked")]
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise InvalidInput("The file is no sound .trk or .trks file.", code="unreadable") from error
    raw, labels = (_movie(array) for array in arrays)
    if raw.shape != labels.shape:
        raise InvalidInput(f"Movie {raw.shape} and labels {labels.shape} differ in shape.", code="shape")
    if labels.dtype.kind not in "iub":
        raise InvalidInput(f"The labels are {labels.dtype}; whole numbers are needed.", code="unsupported-dtype")
    return Segmented(raw, labels)


def _array(archive: tarfile.TarFile, member: tarfile.TarInfo | None, scratch: Path, limit: int) -> NDArray[Any]:
    if member is None:
        raise InvalidInput("The file lacks raw.npy or tracked.npy.", code="unreadable")
    if member.size > limit:
        raise InvalidInput(
            f"The movie takes {member.size} bytes; at most {limit} are allowed (KIOSK_LIMITS__JOB_MEMORY).",
            code="too-large",
        )
    target = scratch / Path(member.name).name
    source = archive.extractfile(member)
    assert source is not None  # only regular files were listed
    with source, target.open("wb") as out:
        shutil.copyfileobj(source, out, _PIECE)
    return np.asarray(np.load(target, mmap_mode="r", allow_pickle=False))


def _movie(array: NDArray[Any]) -> NDArray[Any]:
    """Bring an array to (T, Y, X)."""
    if array.ndim == 5:
        if array.shape[0] != 1:
            raise InvalidInput(f"The file holds {array.shape[0]} movies; one is allowed.", code="several-movies")
        array = array[0]
    if array.ndim == 4 and array.shape[3] >= 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise InvalidInput(f"A movie has the axes time, y and x; this one has the shape {array.shape}.", code="shape")
    return array
