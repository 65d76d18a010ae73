"""Results: downloaded whole or not at all, unpacked, and read as arrays."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cellkiosk.errors import BadFile, NotFound
from cellkiosk.transport import Transport

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Progress = Callable[[int, int], None]
_BLOCK = 1024 * 1024


async def download(to: Transport, path: str, target: Path, progress: Progress | None = None) -> Path:
    """Write what the server has at ``path`` to a file, going on where a connection breaks.

    Raises:
        NotFound: there is no result.
        BadFile: the file cannot be written.
    """
    partial = target.with_name(f".{target.name}.part")
    try:
        with _written(target), partial.open("wb") as file:
            reading = _Download(to, path, file, progress)
            await to.patiently(reading.go_on, file.tell)
        with _written(target):
            partial.replace(target)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return target


class _Download:
    """One file on its way."""

    def __init__(self, to: Transport, path: str, file: Any, progress: Progress | None) -> None:
        self._to = to
        self._path = path
        self._file = file
        self._progress = progress
        self._etag = ""

    async def go_on(self) -> None:
        start = self._file.tell()
        headers = {"Range": f"bytes={start}-", "If-Range": self._etag} if start else {}
        async with self._to.request("GET", self._path, headers) as answer:
            if start and answer.status != 206:  # it changed meanwhile: from the beginning
                self._file.seek(0)
                self._file.truncate()
                start = 0
            self._etag = answer.headers.get("ETag", "")
            total = start + (answer.content_length or 0)
            async for block in answer.content.iter_chunked(_BLOCK):
                await asyncio.to_thread(self._file.write, block)
                if self._progress is not None:
                    self._progress(self._file.tell(), total)


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpack a result into a folder; return its files.

    Raises:
        BadFile: it is damaged, leads out of the folder, or the folder cannot be written.
    """
    found: list[Path] = []
    with _written(folder), _opened(archive) as entries:
        for entry in entries.infolist():
            if entry.is_dir():
                continue
            parts = PurePosixPath(entry.filename).parts
            if not parts or ".." in parts or PurePosixPath(entry.filename).is_absolute() or "\\" in entry.filename:
                raise BadFile(f"The result {archive.name} has a file with a bad name: {entry.filename!r}.")
            target = folder.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with entries.open(entry) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, _BLOCK)
            found.append(target)
    return found


def label_images(archive: Path) -> dict[str, NDArray[np.integer[Any]]]:
    """Return the label images of a result by their names, in their order.

    Raises:
        NotFound: there is none in it.
        BadFile: it is damaged.
    """
    import tifffile  # here: the command line does without

    with _opened(archive) as entries:
        found = {
            name: tifffile.imread(io.BytesIO(entries.read(name)))
            for name in entries.namelist()
            if name.lower().endswith((".tif", ".tiff"))
        }
    if not found:
        raise NotFound("This result has no label image; see its files with result().", 404, "no-labels")
    return found


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(archive) as entries:
            yield entries
    except (zipfile.BadZipFile, EOFError) as error:
        raise BadFile(f"The result {archive.name} is damaged: {error}.") from error


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, ConnectionError | TimeoutError):
            raise
        raise BadFile(f"{os.fspath(path)} cannot be written: {error.strerror}.") from error
