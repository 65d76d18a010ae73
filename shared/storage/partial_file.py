"""Unfinished uploads in a folder.

    <folder>/.kiosk/partial/<id>/about     JSON of ``Partial``
    <folder>/.kiosk/partial/<id>/data      the bytes so far; renamed to the object when complete
    <folder>/.kiosk/partial/<id>/chunk-…   bytes whose checksum is not known yet

The lock on ``data`` is held for the writing of one block only, and each block is refused unless the file is as long as
its writer left it: a writer that lost its connection never has to be found and stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from shared.errors import KioskError, NotFound
from shared.storage.digests import Digests
from shared.storage.file import FileStorage, file_chunks
from shared.storage.names import OWN
from shared.storage.offload import off_loop
from shared.storage.partial import Partial, Progress, checked_id, conflict, mismatch, read, unknown, written
from shared.storage.protocol import BLOCK, Chunks, Stored, read_all
from shared.storage.trouble import as_ours


class FilePartials:
    """See ``Partials``."""

    def __init__(self, storage: FileStorage) -> None:
        self._storage = storage
        self._root = storage.folder / OWN / "partial"
        self._digests = Digests()

    async def create(self, partial: Partial) -> None:
        with as_ours("write"):
            await off_loop(self._create, partial)

    async def find(self, upload: str) -> Partial:
        with as_ours("read"):
            partial = await off_loop(self._find, checked_id(upload))
        if partial is None:
            raise unknown(upload)
        return partial

    async def progress(self, partial: Partial) -> Progress:
        with as_ours("read"):
            found = await off_loop(_status, self._data(partial) if not partial.key else self._about(partial))
        if found is not None:
            return Progress(partial.length if partial.key else found.st_size, found.st_mtime)
        if await self._became(partial) or (await self.find(partial.id)).key:
            return Progress(partial.length, time.time())
        raise unknown(partial.id)

    async def append(self, partial: Partial, offset: int, chunks: Chunks) -> int:
        with as_ours("write"):
            writer = await self._writer(partial, offset)
            digest = self._digests.taken(partial.id, offset)
            try:
                async for block in _blocks(chunks, lambda rest: self._rest(writer, digest, rest)):
                    await off_loop(writer.write, block, digest)
            finally:
                self._digests.keep(partial.id, writer.offset, digest)
                writer.close()
        return writer.offset

    async def append_if(self, partial: Partial, offset: int, chunks: Chunks, algorithm: str, digest: bytes) -> int:
        with as_ours("write"):
            (await self._writer(partial, offset)).close()
            chunk = self._folder(partial.id) / f"chunk-{uuid.uuid4().hex}"
            try:
                if await _spooled(chunk, chunks, algorithm) != digest:
                    raise mismatch(algorithm)
                return await self.append(partial, offset, file_chunks(chunk))
            finally:
                chunk.unlink(missing_ok=True)

    async def head(self, partial: Partial, length: int) -> bytes:
        with as_ours("read"):
            try:
                return await off_loop(_start, self._data(partial), length)
            except FileNotFoundError as error:
                key = await self._became(partial)
                if not key:
                    raise unknown(partial.id) from error
        return await read_all(self._storage.get(key, 0, length))

    async def join(self, parts: Sequence[Partial], whole: Partial) -> None:
        with as_ours("write"):
            await off_loop(self._create, whole)
            try:
                for part in parts:
                    await off_loop(self._copy, part, whole)
            except BaseException:
                await off_loop(self._remove, whole.id)
                raise

    async def finish(self, partial: Partial, key: str, content_type: str, metadata: Mapping[str, str]) -> Stored:
        finished = dataclasses.replace(partial, key=key)
        try:
            with as_ours("write", key):
                sha256 = self._digests.final(partial.id, partial.length)
                stored = await self._storage.publish(self._data(partial), key, content_type, metadata, sha256)
        except NotFound:  # it was renamed before: by another, or by one who was then killed
            found = await self._storage.stat(key)
            stored = Stored(key, found.size, found.sha256, found.etag)
        with as_ours("write"):
            await off_loop(self._write_about, finished)
        return stored

    async def remove(self, upload: str) -> bool:
        with as_ours("remove"):
            return await off_loop(self._remove, checked_id(upload))

    async def sweep(self, now: float) -> int:
        with as_ours("remove"):
            return await off_loop(self._sweep, now)

    def _folder(self, upload: str) -> Path:
        return self._root / upload

    def _data(self, partial: Partial) -> Path:
        return self._folder(partial.id) / "data"

    def _about(self, partial: Partial) -> Path:
        return self._folder(partial.id) / "about"

    async def _opened(self, partial: Partial) -> BinaryIO:
        try:
            return await off_loop(self._data(partial).open, "rb+", 0)
        except FileNotFoundError as error:
            if await self._became(partial):
                raise conflict(0, partial.length) from error
            raise unknown(partial.id) from error

    async def _writer(self, partial: Partial, offset: int) -> _Appending:
        file = await self._opened(partial)
        try:
            return await off_loop(_Appending, file, self._data(partial), offset)
        except BaseException:
            file.close()
            raise

    async def _became(self, partial: Partial) -> str:
        """Return the key of the object that it is by now, though perhaps nobody lived to write that down; or ""."""
        async for found in self._storage.list(f"uploads/{partial.id}"):
            return found.key
        return ""

    def _create(self, partial: Partial) -> None:
        folder = self._folder(partial.id)
        try:
            folder.mkdir(parents=True)
            self._data(partial).touch()
            self._write_about(partial)
        except BaseException:
            self._remove(partial.id)
            raise

    def _find(self, upload: str) -> Partial | None:
        try:
            return read((self._folder(upload) / "about").read_bytes())
        except FileNotFoundError:
            return None

    def _write_about(self, partial: Partial) -> None:
        path = self._about(partial)
        temporary = path.with_name(f"about-{uuid.uuid4().hex}")
        try:
            temporary.write_bytes(written(partial))
            temporary.replace(path)
        except FileNotFoundError as error:
            raise unknown(partial.id) from error
        finally:
            temporary.unlink(missing_ok=True)

    def _rest(self, writer: _Appending, digest: Any, rest: bytes) -> None:
        """Write what came before the stream broke; its own error is the one to be raised."""
        with contextlib.suppress(OSError, KioskError):
            writer.write(rest, digest)

    def _copy(self, part: Partial, whole: Partial) -> None:
        source = self._storage.local_path(part.key) if part.key else self._data(part)
        assert source is not None
        with source.open("rb") as origin, self._data(whole).open("ab") as target:
            shutil.copyfileobj(origin, target, BLOCK)

    def _remove(self, upload: str) -> bool:
        folder = self._folder(upload)
        there = (folder / "about").exists()
        shutil.rmtree(folder, ignore_errors=True)
        self._digests.forget(upload)
        return there

    def _sweep(self, now: float) -> int:
        return sum(self._remove(folder.name) for folder in self._root.glob("*") if self._over(folder, now))

    def _over(self, folder: Path, now: float) -> bool:
        partial = self._find(folder.name)
        changed = max((found.st_mtime for name in ("about", "data") if (found := _status(folder / name))), default=now)
        return now > changed + (partial.life if partial else 3600)


class _Appending:
    """One request's writing to the data file."""

    def __init__(self, file: BinaryIO, path: Path, offset: int) -> None:
        self._file = file
        self._path = path
        self.offset = offset
        with _locked(file):
            self._refuse_another()

    def write(self, block: bytes, digest: Any) -> None:
        with _locked(self._file):
            self._refuse_another()
            view = memoryview(block)
            self._file.seek(self.offset)
            while view:
                done = self._file.write(view)
                self.offset += done
                if digest is not None:
                    digest.update(view[:done])
                view = view[done:]

    def close(self) -> None:
        self._file.close()

    def _refuse_another(self) -> None:
        there = _status(self._path)
        mine = os.fstat(self._file.fileno())
        if there is None or there.st_ino != mine.st_ino or mine.st_size != self.offset:
            raise conflict(self.offset, mine.st_size)


async def _blocks(chunks: Chunks, rest: Callable[[bytes], None]) -> AsyncIterator[bytes]:
    """Yield chunks gathered to blocks; if they break off, give the last ones to ``rest`` and raise on."""
    gathered: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks:
            gathered.append(chunk)
            size += len(chunk)
            if size >= BLOCK:
                block, gathered, size = b"".join(gathered), [], 0
                yield block
        if gathered:
            block, gathered = b"".join(gathered), []
            yield block
    except (Exception, asyncio.CancelledError):
        if gathered:
            await off_loop(rest, b"".join(gathered))
        raise


async def _spooled(path: Path, chunks: Chunks, algorithm: str) -> bytes:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("wb") as file:
        async for block in _blocks(chunks, lambda _: None):
            await off_loop(file.write, block)
            await off_loop(digest.update, block)
    return digest.digest()


def _start(path: Path, length: int) -> bytes:
    with path.open("rb") as file:
        return file.read(length)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _locked(file: BinaryIO) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
