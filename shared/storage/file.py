"""Objects as plain files in a folder.

    <folder>/<key>                      the object's bytes: a file that other programs may read
    <folder>/.kiosk/meta/<xx>/<hex>     JSON about the object of the key with this SHA-256: type, checksum, who wrote it
    <folder>/.kiosk/tmp/<hex>           being written; renamed when complete; swept if its writer was killed
    <folder>/.kiosk/partial/            unfinished resumable uploads (``partial.py``)

The JSON is written before the object appears, and names the sizes that the object may have (two, if it replaced one):
a file of any other size was cut short by a power failure and counts as absent. A file without JSON was placed by a
person: it is readable, carries no mark, and is never removed by a janitor.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from shared.errors import InvalidInput, NotFound, Retry
from shared.storage.names import OWN, checked, checked_prefix, is_text
from shared.storage.offload import off_loop
from shared.storage.protocol import BLOCK, Chunks, Source, Stat, Stored
from shared.storage.trouble import as_ours
from shared.storage.writer import BlockWriter

_TRIES = 20


class FileStorage:
    """See ``Storage``; several processes may use one folder at once."""

    def __init__(self, folder: Path, deployment: str, *, fsync: bool = False) -> None:
        self.folder = folder.absolute()
        self.deployment = deployment
        self._fsync = fsync

    async def put(
        self,
        key: str,
        source: Source,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> Stored:
        checked(key)
        if isinstance(source, bytes | Path):
            with as_ours("write"):
                stored = await off_loop(self._put_small, key, source, content_type, metadata)
            if stored is not None:
                return stored
        assert not isinstance(source, bytes)  # those are small, however many
        chunks = file_chunks(source) if isinstance(source, Path) else source
        with as_ours("write"):
            temporary = await off_loop(self._temporary)
            try:
                size, sha256 = await self._receive(temporary, chunks)
                about = self._about(key, size, sha256, content_type, metadata)
                return await off_loop(self._publish, temporary, key, about)
            finally:
                temporary.unlink(missing_ok=True)

    async def upload(self, path: Path, key: str, content_type: str = "application/octet-stream") -> Stored:
        return await self.put(key, path, content_type)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        await self.stat(key)
        with as_ours("read", key):
            async for chunk in file_chunks(self._path(key), start, end):
                yield chunk

    async def download(self, key: str, path: Path) -> int:
        size = (await self.stat(key)).size
        temporary = path.with_name(f".{uuid.uuid4().hex}.part")
        with as_ours("read", key):
            try:
                await off_loop(shutil.copyfile, self._path(key), temporary)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        return size

    def local_path(self, key: str) -> Path | None:
        return self._path(checked(key))

    async def stat(self, key: str) -> Stat:
        checked(key)
        with as_ours("read", key):
            found = await off_loop(self._stat, key)
        if found is None:
            raise NotFound(f"There is no object {key!r} in the storage.")
        return found

    async def list(self, prefix: str = "") -> AsyncIterator[Stat]:
        walk = self._walk(prefix)
        with as_ours("read", prefix):
            while batch := await off_loop(lambda: [*itertools.islice(walk, 256)]):
                for found in batch:
                    yield found

    async def delete(self, key: str) -> bool:
        checked(key)
        with as_ours("remove"):
            return await off_loop(self._delete, key)

    async def delete_prefix(self, prefix: str) -> int:
        checked_prefix(prefix)
        return sum([await self.delete(found.key) async for found in self.list(prefix)])

    async def copy(self, source: str, target: str) -> Stored:
        found = await self.stat(source)
        about = self._about(checked(target), found.size, found.sha256, found.content_type, found.metadata)
        with as_ours("write", source):
            temporary = await off_loop(self._temporary)
            try:
                await off_loop(_link, self._path(source), temporary)
                return await off_loop(self._publish, temporary, target, about)
            finally:
                temporary.unlink(missing_ok=True)

    def url(self, key: str) -> str:
        return self._path(checked(key)).as_uri()

    async def signed_url(self, key: str, life: timedelta, filename: str | None = None) -> str | None:  # noqa: ARG002
        return None

    async def sweep(self, older: timedelta) -> int:
        with as_ours("remove"):
            return await off_loop(self._sweep, time.time() - older.total_seconds())

    async def check(self) -> None:
        with as_ours("write"):
            (await off_loop(self._temporary)).unlink(missing_ok=True)

    async def aclose(self) -> None:
        return None

    # -- finishing what was gathered elsewhere (partial.py) --

    async def publish(
        self, complete: Path, key: str, content_type: str, metadata: Mapping[str, str], sha256: str = ""
    ) -> Stored:
        """Make a complete file of this folder the object ``key`` by renaming; works out its SHA-256 unless given."""
        checked(key)
        with as_ours("write", key):
            size, digest = await off_loop(_digest, complete, sha256)
            return await off_loop(self._publish, complete, key, self._about(key, size, digest, content_type, metadata))

    # -- writing --

    async def _receive(self, temporary: Path, chunks: Chunks) -> tuple[int, str]:
        """Write the stream to a file; receiving and writing overlap."""
        writer = BlockWriter(temporary, fsync=self._fsync)
        try:
            async for chunk in chunks:
                await writer.write(chunk)
            return await writer.finish()
        finally:
            await writer.aclose()

    def _put_small(
        self, key: str, source: bytes | Path, content_type: str, metadata: Mapping[str, str] | None
    ) -> Stored | None:
        """Store what is there, in one go: changing threads would take longer than the work; None for a large file."""
        if isinstance(source, Path) and not _is_small(source):
            return None
        content = source if isinstance(source, bytes) else source.read_bytes()
        temporary = self._temporary()
        try:
            with temporary.open("wb") as file:
                file.write(content)
                if self._fsync:
                    file.flush()
                    os.fsync(file.fileno())
            digest = hashlib.sha256(content).hexdigest()
            return self._publish(temporary, key, self._about(key, len(content), digest, content_type, metadata))
        finally:
            temporary.unlink(missing_ok=True)

    def _temporary(self) -> Path:
        folder = self.folder / OWN / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / uuid.uuid4().hex
        path.touch(exist_ok=False)
        return path

    def _about(
        self, key: str, size: int, sha256: str, content_type: str, metadata: Mapping[str, str] | None
    ) -> dict[str, Any]:
        return {
            "key": key,
            "sizes": [size],
            "sha256": sha256,
            "content_type": content_type,
            "deployment": self.deployment,
            "stored_at": time.time(),
            "metadata": dict(metadata or {}),
        }

    def _publish(self, temporary: Path, key: str, about: dict[str, Any]) -> Stored:
        path = self._path(key)
        with contextlib.suppress(OSError):
            about["sizes"].append(path.stat().st_size)
        self._write_about(key, about)
        for _ in range(_TRIES):
            # Whoever deletes a neighbour may remove the folder between these two calls.
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.replace(path)
                break
            except FileNotFoundError:
                if not temporary.exists():
                    raise  # another has published it
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise InvalidInput(
                    f"{key!r} cannot be stored: it lies under another object, or one lies under it."
                ) from error
        else:
            raise Retry(f"{key!r} could not be stored: its folder is removed again and again.")
        if self._fsync:
            _sync_folder(path.parent)
        return Stored(key, about["sizes"][0], about["sha256"], _etag(path.stat()))

    def _write_about(self, key: str, about: dict[str, Any]) -> None:
        path = self._about_path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._temporary()
        try:
            temporary.write_text(json.dumps(about))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    # -- reading --

    def _path(self, key: str) -> Path:
        return self.folder / key

    def _about_path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / OWN / "meta" / name[:2] / name[2:]

    def _stat(self, key: str) -> Stat | None:
        path = self._path(key)
        about = _read_about(self._about_path(key))
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not path.is_file():
            return None
        if about and status.st_size not in about["sizes"]:
            about = _read_about(self._about_path(key))  # it may have been replaced between the two looks
            status = path.stat()
            if about and status.st_size not in about["sizes"]:
                return None
        if not about:
            return Stat(key, status.st_size, status.st_mtime, _etag(status))
        return Stat(
            key,
            status.st_size,
            about["stored_at"],
            _etag(status),
            about["content_type"],
            about["deployment"],
            about["sha256"] if status.st_size == about["sizes"][0] else "",
            about["metadata"],
        )

    def _walk(self, prefix: str) -> Iterator[Stat]:
        """Yield in the order of GCS: by the bytes of the whole key, a folder's name with its slash."""
        for key in self._keys("", prefix):
            if found := self._stat(key):
                yield found

    def _keys(self, inside: str, prefix: str) -> Iterator[str]:
        try:
            with os.scandir(self.folder / inside) as entries:
                named = [entry for entry in entries if is_text(entry.name)]  # people may call theirs anything
                names = [inside + entry.name + ("/" if entry.is_dir() else "") for entry in named]
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in sorted(names):
            if name == f"{OWN}/":
                continue
            if name.endswith("/"):
                if name.startswith(prefix) or prefix.startswith(name):
                    yield from self._keys(name, prefix)
            elif name.startswith(prefix):
                yield name

    # -- removing --

    def _delete(self, key: str) -> bool:
        path = self._path(key)
        there = path.is_file()
        if there:
            path.unlink(missing_ok=True)
        self._about_path(key).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty, or gone: both are well
            for parent in itertools.takewhile(lambda folder: folder != self.folder, path.parents):
                parent.rmdir()
        return there

    def _sweep(self, before: float) -> int:
        removed = 0
        own = self.folder / OWN
        for path in itertools.chain((own / "tmp").glob("*"), (own / "meta").glob("*/*")):
            try:
                abandoned = path.stat().st_mtime < before and (path.parent.name == "tmp" or self._orphan(path))
                if abandoned:
                    path.unlink()
                    removed += 1
            except FileNotFoundError:
                continue
        return removed

    def _orphan(self, path: Path) -> bool:
        about = _read_about(path)
        return about is None or not self._path(about["key"]).exists()


def _is_small(path: Path) -> bool:
    try:
        return path.stat().st_size <= BLOCK
    except OSError:
        return False  # reading it will tell


async def file_chunks(path: Path, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
    """Yield a local file's bytes ``start`` to ``end`` (exclusive) in blocks."""
    file = await off_loop(path.open, "rb", 0)
    try:
        left = end - start if end is not None else None
        if start:
            file.seek(start)
        while left is None or left > 0:
            block = await off_loop(file.read, BLOCK if left is None else min(BLOCK, left))
            if not block:
                return
            left = None if left is None else left - len(block)
            yield block
    finally:
        file.close()


async def once(data: bytes) -> AsyncIterator[bytes]:
    """Yield bytes in blocks."""
    view = memoryview(data)
    for start in range(0, len(data), BLOCK):
        yield bytes(view[start : start + BLOCK])


def _digest(path: Path, known: str) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, known or hashlib.file_digest(file, "sha256").hexdigest()


def _link(source: Path, target: Path) -> None:
    target.unlink()
    try:
        target.hardlink_to(source)  # objects never change in place, so two names of one file are as good as two files
    except OSError:
        shutil.copyfile(source, target)


def _etag(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


def _read_about(path: Path) -> dict[str, Any] | None:
    try:
        about = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return about if isinstance(about, dict) else None


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
