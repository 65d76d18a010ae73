"""Movies that are segmented already: ``.trk`` (one movie) and ``.trks`` (several), tar files of NumPy arrays.

Members: ``raw.npy`` and ``tracked.npy``, (T, Y, X, 1), in a ``.trks`` (B, T, Y, X, 1); lineage as JSON, which is not
read: linking anew is what the job is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.consumer.reading import Member, extract_member, list_members
from services.consumer.reading.arrays import BAD_HEADER
from services.consumer.reading.limits import MEMORY
from services.consumer.settings import LimitSettings
from shared.errors import InvalidInput

ENDINGS = (".trk", ".trks")
#: Bytes of what else may be in such a file.
_LINEAGE = 100_000_000


@dataclass(frozen=True)
class Segmented:
    """A movie and its label images, both mapped from files: (T, Y, X)."""

    raw: NDArray[Any]
    labels: NDArray[Any]


def read_trk(path: Path, scratch: Path, limits: LimitSettings) -> list[Segmented]:
    """Read segmented movies, one of a ``.trk`` or all of a ``.trks``; their arrays become files in ``scratch``.

    Raises:
        InvalidInput: it is no such file, or too large.
    """
    files = _members(path, scratch, limits)
    raw, labels = (_movies(_array(path, files, f"{name}.npy", scratch, limits)) for name in ("raw", "tracked"))
    if raw.shape != labels.shape:
        raise InvalidInput(f"Movie {raw.shape} and labels {labels.shape} differ in shape.", code="shape")
    if labels.dtype.kind not in "iub":
        raise InvalidInput(f"The labels are {labels.dtype}; whole numbers are needed.", code="unsupported-dtype")
    if raw.dtype.kind not in "iubf":
        raise InvalidInput(f"The movie's pixels are {raw.dtype}; numbers are needed.", code="unsupported-dtype")
    return [Segmented(*movie) for movie in zip(raw, labels, strict=True)]


def _members(path: Path, scratch: Path, limits: LimitSettings) -> dict[str, Member]:
    """Return the arrays in the file by name; a gzipped one is unpacked as far as two arrays may be large."""
    most = 2 * limits.job_memory + _LINEAGE
    try:
        members, _ = list_members(path, (".npy",), limits.archive_members, most, scratch)
    except InvalidInput as error:
        if error.code != "too-large":
            raise
        raise InvalidInput(
            f"The file unpacks to more than two arrays of {limits.job_memory:,} bytes (setting {MEMORY}).",
            code="too-large",
        ) from error
    return {Path(member.name).name: member for member in members}


def _array(path: Path, files: Mapping[str, Member], name: str, scratch: Path, limits: LimitSettings) -> NDArray[Any]:
    member = files.get(name)
    if member is None:
        raise InvalidInput(f"The file lacks {name}.", code="unreadable")
    if member.size > limits.job_memory:
        raise InvalidInput(
            f"The movie takes {member.size:,} bytes; at most {limits.job_memory:,} are allowed (setting {MEMORY}).",
            code="too-large",
        )
    extract_member(path, member, scratch / name)
    try:
        return np.asarray(np.load(scratch / name, mmap_mode="r", allow_pickle=False))
    except (OSError, *BAD_HEADER) as error:
        raise InvalidInput(f"{name} in the file is no sound array of numbers.", code="unreadable") from error


def _movies(array: NDArray[Any]) -> NDArray[Any]:
    """Bring an array, with or without a last axis of channels, to (B, T, Y, X)."""
    plain = array[..., 0] if array.ndim in (4, 5) and array.shape[-1] >= 1 else array
    if plain.ndim not in (3, 4) or 0 in plain.shape:
        raise InvalidInput(f"A movie has the axes time, y and x; this one has the shape {array.shape}.", code="shape")
    return plain[np.newaxis] if plain.ndim == 3 else plain
