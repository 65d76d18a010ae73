"""Unfinished uploads in a bucket: objects that are composed when all of them are there.

    <prefix>.kiosk/partial/<id>/about                      JSON of ``Partial``
    <prefix>.kiosk/partial/<id>/parts/<offset>-<random>    bytes from that offset on
    <prefix>.kiosk/partial/<id>/joined/<random>            composed of parts, where one call cannot take all

Each request writes parts of at most ``PART`` bytes; one that breaks off ends its part there, so that what arrived
stays. A frontend that is killed loses the part it was writing. Of two parts at one offset, the longer counts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

from shared.errors import NotFound
from shared.storage.digests import Digests
from shared.storage.gcs import MOST_COMPOSED, GcsStorage
from shared.storage.names import OWN
from shared.storage.offload import off_loop
from shared.storage.partial import Partial, Progress, checked_id, conflict, mismatch, read, unknown, written
from shared.storage.protocol import Chunks, Stat, Stored, read_all

PART = 64 * 1024 * 1024
"""Bytes of one part at most: what a killed frontend loses."""


class GcsPartials:
    """See ``Partials``."""

    def __init__(self, storage: GcsStorage) -> None:
        self._storage = storage
        self._own = GcsStorage(storage.to, f"{storage.prefix}{OWN}/partial/", storage.deployment)
        self._digests = Digests()

    async def create(self, partial: Partial) -> None:
        await self._own.put(f"{partial.id}/about", written(partial), "application/json")

    async def find(self, upload: str) -> Partial:
        try:
            return read(await read_all(self._own.get(f"{checked_id(upload)}/about")))
        except NotFound as error:
            raise unknown(upload) from error

    async def progress(self, partial: Partial) -> Progress:
        about = await self._stat(partial)
        if partial.key:
            return Progress(partial.length, about.modified)
        parts = await self._parts(partial)
        return Progress(parts[-1].end if parts else 0, max([about.modified, *(part.modified for part in parts)]))

    async def append(self, partial: Partial, offset: int, chunks: Chunks) -> int:
        await self._refuse_another(partial, offset)
        digest = self._digests.taken(partial.id, offset)
        stream = _Breakable(chunks if digest is None else _summed(chunks, digest))
        while not stream.over:
            part = stream.take(PART)
            first = await anext(part, b"")
            if first:
                stored = await self._own.put(_part_key(partial, offset), _with(first, part))
                offset += stored.size
        self._digests.keep(partial.id, offset, digest)  # not where storing failed: it knows more than is stored
        if stream.trouble is not None:
            raise stream.trouble
        return offset

    async def append_if(self, partial: Partial, offset: int, chunks: Chunks, algorithm: str, digest: bytes) -> int:
        await self._refuse_another(partial, offset)
        summed = hashlib.new(algorithm, usedforsecurity=False)
        waiting = f"{partial.id}/waiting/{secrets.token_hex(8)}"
        stored = await self._own.put(waiting, _summed(chunks, summed))
        try:
            if summed.digest() != digest:
                raise mismatch(algorithm)
            if stored.size:
                await self._own.copy(waiting, _part_key(partial, offset))
        finally:
            await self._own.delete(waiting)
        return offset + stored.size

    async def head(self, partial: Partial, length: int) -> bytes:
        found = b""
        for part in await self._parts(partial):
            found += await read_all(self._own.get(part.key, 0, length - len(found)))
            if len(found) >= length:
                break
        return found

    async def join(self, parts: Sequence[Partial], whole: Partial) -> None:
        await self.create(whole)
        try:
            offset = 0
            for source in parts:
                for part in await self._parts(source):
                    await self._own.copy(part.key, _part_key(whole, offset))
                    offset += part.end - part.start
        except BaseException:
            await self.remove(whole.id)
            raise

    async def finish(self, partial: Partial, key: str, content_type: str, metadata: Mapping[str, str]) -> Stored:
        try:
            made = await self._composed(partial, key, content_type, metadata)
        except NotFound:  # the parts are gone: it was finished before, perhaps by one who was then killed
            made = await self._storage.stat(key)
        sha256 = made.sha256 or self._digests.final(partial.id, partial.length) or await self._digest(key)
        if not made.sha256:
            made = await self._storage.record_sha256(key, sha256)
        await self.create(dataclasses.replace(partial, key=key))
        await self._own.delete_prefix(f"{partial.id}/parts/")
        await self._own.delete_prefix(f"{partial.id}/joined/")
        return Stored(key, made.size, made.sha256, made.etag)

    async def _digest(self, key: str) -> str:
        """Work out the SHA-256 of what came through more than one frontend, or was joined: it is read once more."""
        digest = hashlib.sha256()
        async for chunk in self._storage.get(key):
            await off_loop(digest.update, chunk)
        return digest.hexdigest()

    async def remove(self, upload: str) -> bool:
        self._digests.forget(upload)
        there = await self._own.delete(f"{checked_id(upload)}/about")
        await self._own.delete_prefix(f"{upload}/")
        return there

    async def sweep(self, now: float) -> int:
        changed: dict[str, float] = {}
        async for found in self._own.list():
            upload = found.key.split("/", 1)[0]
            changed[upload] = max(found.modified, changed.get(upload, 0.0))
        return sum([await self._swept(upload, now - last) for upload, last in changed.items()])

    async def _swept(self, upload: str, age: float) -> bool:
        try:
            life = (await self.find(upload)).life
        except NotFound:
            life = 3600.0  # parts without a description: left by a removal that was cut short
        if age > life:
            await self._own.delete_prefix(f"{upload}/")
        return age > life

    async def _stat(self, partial: Partial) -> Stat:
        try:
            return await self._own.stat(f"{partial.id}/about")
        except NotFound as error:
            raise unknown(partial.id) from error

    async def _refuse_another(self, partial: Partial, offset: int) -> None:
        actual = (await self.progress(await self.find(partial.id))).offset
        if actual != offset:
            raise conflict(offset, actual)

    async def _parts(self, partial: Partial) -> list[_Part]:
        """Return the parts that follow one another from the first byte on; of several at one offset the longest."""
        longest: dict[int, _Part] = {}
        async for stat in self._own.list(f"{partial.id}/parts/"):
            part = _part(stat)
            longest[part.start] = max(part, longest.get(part.start, part))
        chosen: list[_Part] = []
        end = 0
        while (following := longest.get(end)) is not None and following.end > end:
            chosen.append(following)
            end = following.end
        return chosen

    async def _composed(self, partial: Partial, key: str, content_type: str, metadata: Mapping[str, str]) -> Stat:
        parts = await self._parts(partial)
        if not parts or parts[-1].end != partial.length:
            raise unknown(partial.id)  # another who finished it is removing them: never an object of some of them
        names = [self._own.prefix + part.key for part in parts]
        while len(names) > MOST_COMPOSED:
            names = [
                await self._joined(partial, names[at : at + MOST_COMPOSED])
                for at in range(0, len(names), MOST_COMPOSED)
            ]
        return await self._storage.compose(names, key, content_type, metadata)

    async def _joined(self, partial: Partial, names: Sequence[str]) -> str:
        key = f"{partial.id}/joined/{secrets.token_hex(8)}"
        await self._own.compose(names, key, "application/octet-stream", {})
        return self._own.prefix + key


class _Part(NamedTuple):
    start: int
    end: int
    modified: float
    key: str


class _Breakable:
    """A stream that ends where it breaks, and keeps the error for later."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = aiter(chunks)
        self._left = b""
        self.over = False
        self.trouble: Exception | None = None

    async def take(self, most: int) -> AsyncIterator[bytes]:
        """Yield the next ``most`` bytes, fewer at the end."""
        while most and (chunk := self._left or await self._next()):
            self._left, chunk = chunk[most:], chunk[:most]
            most -= len(chunk)
            yield chunk

    async def _next(self) -> bytes:
        try:
            async for chunk in self._chunks:
                if chunk:
                    return chunk
        except Exception as error:  # noqa: BLE001  # whatever breaks the stream, what came before it is kept
            self.trouble = error
        self.over = True
        return b""


def _part_key(partial: Partial, offset: int) -> str:
    return f"{partial.id}/parts/{offset:016}-{secrets.token_hex(8)}"


def _part(stat: Stat) -> _Part:
    start = int(stat.key.rsplit("/", 1)[1].partition("-")[0])
    return _Part(start, start + stat.size, stat.modified, stat.key)


async def _with(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


async def _summed(chunks: Chunks, digest: hashlib._Hash) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        await off_loop(digest.update, chunk)
        yield chunk
