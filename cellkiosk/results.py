"""Results: downloaded whole or not at all, unpacked, and read as arrays."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import aiohttp

from cellkiosk.errors import BadFile, NotFound
from cellkiosk.transport import Transport

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Progress = Callable[[int, int], None]
_BLOCK = 1024 * 1024


async def download(to: Transport, path: str, target: Path, progress: Progress | None = None) -> Path:
    """Write what the server has at ``path`` to a file, going on where a connection, or an earlier run, broke off.

    Raises:
        NotFound: there is no result.
        BadFile: the file cannot be written.
    """
    reading = _Download(to, path, target, progress)
    try:
        with _written(target):
            await to.patiently(reading.go_on, lambda: reading.at)
            reading.partial.replace(target)
    except BadFile:  # of a full disk the rest of it would take still more
        with contextlib.suppress(OSError):
            reading.partial.unlink(missing_ok=True)
        raise
    return target


class _Download:
    """One file on its way, in a hidden file beside its target whose name tells which version of it that is."""

    def __init__(self, to: Transport, path: str, target: Path, progress: Progress | None) -> None:
        self.at = 0
        self.partial = target.with_name(f".{target.name}.part")
        self._to = to
        self._path = path
        self._target = target
        self._progress = progress
        self._etag = ""
        self._size = 0

    async def go_on(self) -> None:
        while not await self._take():
            pass

    async def _take(self) -> bool:
        """Ask once; return False where the rest must be asked for."""
        start = self.at
        headers = {"Range": f"bytes={start}-", "If-Range": self._etag} if start else {}
        async with self._to.request("GET", self._path, headers) as answer:
            if answer.status != 206:  # all of it: at first, or because it changed meanwhile
                self._etag, self._size = answer.headers.get("ETag", ""), answer.content_length or 0
                self.at = 0 if start else self._left()
                if self.at:
                    return self.at == self._size
            elif answer.headers.get("ETag", "") != self._etag:
                self.at = 0
                return False
            await self._write(answer)
        return True

    def _left(self) -> int:
        """Return how many bytes of this version an earlier run has left."""
        if not self._etag:
            return 0
        version = hashlib.sha256(self._etag.encode()).hexdigest()[:8]
        self.partial = self._target.with_name(f".{self._target.name}.{version}.part")
        size = self.partial.stat().st_size if self.partial.exists() else 0
        return size if size <= self._size else 0

    async def _write(self, answer: aiohttp.ClientResponse) -> None:
        with self.partial.open("r+b" if self.at else "wb") as file:
            file.seek(self.at)
            async for block in answer.content.iter_chunked(_BLOCK):
                await asyncio.to_thread(file.write, block)
                self.at += len(block)
                if self._progress is not None:
                    self._progress(self.at, self._size)


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
