"""Movies that are segmented already: .trk and .trks files, which are tars of raw.npy, tracked.npy and a lineage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.consumer.reading.archives import extract_member, list_members
from shared.errors import InvalidInput

#: Members of such a file; raw and tracked are needed.
_MEMBERS = 16
_RAW, _TRACKED = "raw.npy", "tracked.npy"


@dataclass(frozen=True)
class SegmentedMovie:
    """The two arrays of a movie, as .npy files: (T, Y, X, C), or (1, T, Y, X, C) from a .trks file."""

    raw: Path
    labels: Path


def unpack_movie(movie: Path, folder: Path, most_bytes: int) -> SegmentedMovie:
    """Unpack a .trk or .trks file.

    The arrays are not looked into: give them to the decoder, with the dimension order ``BXYC``.

    Args:
        movie: the file, a tar that may be compressed with gzip.
        folder: to unpack into.
        most_bytes: bytes that its members may take together.

    Raises:
        InvalidInput: it is no such file, damaged, or too large.
    """
    try:
        members, _ = list_members(movie, (".npy",), _MEMBERS, most_bytes, folder)
    except InvalidInput as error:
        raise InvalidInput(f"The file is no .trk or .trks movie. {error}", code=error.code) from error
    found = {member.name.rpartition("/")[2]: member for member in members}
    if missing := [name for name in (_RAW, _TRACKED) if name not in found]:
        raise InvalidInput(f"The movie file lacks {missing[0]}; it needs {_RAW} and {_TRACKED}.", code="damaged")
    unpacked = SegmentedMovie(folder / _RAW, folder / _TRACKED)
    for name, path in ((_RAW, unpacked.raw), (_TRACKED, unpacked.labels)):
        extract_member(movie, found[name], path)
    return unpacked
