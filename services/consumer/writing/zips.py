"""Result zips: the same bytes for the same entries, readable as a stream."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

#: Endings of files that are compressed in themselves.
_COMPRESSED = {".tif", ".tiff", ".png", ".zip", ".npz"}
_PIECE = 1 << 20
#: Bytes from which an entry gets 64-bit sizes.
_BIG = 1 << 31
# The first date that a zip can hold: results do not depend on the time of day.
_DATE = (1980, 1, 1, 0, 0, 0)


def write_zip(path: Path, entries: Sequence[tuple[str, Path]]) -> None:
    """Write files into a zip, in the order given; stored where they are compressed already, else deflated.

    No entry has a data descriptor, since readers of streams (Java's) do not take one behind a stored entry.

    Args:
        path: to write.
        entries: names, relative with forward slashes and each once, and the files they stand for.

    Raises:
        ValueError: a name is absolute, leaves the zip, or comes twice.
    """
    names = [name for name, _ in entries]
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\\" in name:
            raise ValueError(f"{name!r} is no name for an entry of a zip")
    if len(set(names)) < len(names):
        raise ValueError(f"names come twice: {sorted(names)}")
    with zipfile.ZipFile(path, "w", compresslevel=1) as out:
        for name, file in entries:
            _add(out, name, file)


def _add(out: zipfile.ZipFile, name: str, file: Path) -> None:
    stored = file.suffix.lower() in _COMPRESSED or PurePosixPath(name).suffix.lower() in _COMPRESSED
    info = zipfile.ZipInfo(name, _DATE)
    info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    info.create_system = 3
    with file.open("rb") as source, out.open(info, "w", force_zip64=file.stat().st_size > _BIG) as copy:
        shutil.copyfileobj(source, copy, _PIECE)
