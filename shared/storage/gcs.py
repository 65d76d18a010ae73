"""Objects in a Google Cloud Storage bucket, by gcloud-aio-storage.

Small objects go up in one request, larger ones by a resumable upload in pieces of ``PIECE`` bytes: a transfer holds one
piece in memory, whatever the object's size. What was stored is compared by CRC32C. Our mark and the SHA-256 are in the
object's own metadata (``kiosk-deployment``, ``kiosk-sha256``). An object comes into being with its last piece, so that
nothing half-written can be seen.
"""

from __future__ import annotations

import asyncio
import base64
import builtins
import contextlib
import hashlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import google_crc32c
from yarl import URL

from shared.errors import InvalidInput, Misconfigured, NotFound, Retry
from shared.storage.connection import Connection
from shared.storage.file import file_chunks, once
from shared.storage.gcs_upload import PIECE, ResumableUpload, one_request
from shared.storage.names import OWN, checked, checked_prefix
from shared.storage.offload import off_loop
from shared.storage.protocol import BLOCK, Chunks, Source, Stat, Stored
from shared.storage.retrying import TROUBLE
from shared.storage.signing import signed
from shared.storage.trouble import as_ours
from shared.storage.writer import BlockWriter

MARK = "kiosk-deployment"
SHA256 = "kiosk-sha256"
MOST_COMPOSED = 32
"""Objects that one compose call takes; a limit of GCS."""


_AT_ONCE = 16
_DATA = "application/octet-stream"


class GcsStorage:
    """See ``Storage``; the keys lie under ``prefix`` in the bucket."""

    def __init__(self, to: Connection, prefix: str, deployment: str) -> None:
        self.to = to
        self.prefix = prefix
        self.deployment = deployment

    async def put(
        self,
        key: str,
        source: Source,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> Stored:
        name = self._name(key)
        about = self._about(content_type, metadata)
        sums = _Sums()
        pieces = _pieces(_chunks(source), sums)
        first = await anext(pieces)
        if len(first) < PIECE:
            about["metadata"][SHA256] = sums.sha256.hexdigest()
            made = await self.to.patiently(lambda: one_request(self.to, name, first, about), key)
        else:
            made = await self._in_pieces(name, first, pieces, about)
        await self._compare(key, made, sums)
        if len(first) == PIECE:
            await self._patch(key, {SHA256: sums.sha256.hexdigest()})
        return Stored(key, sums.size, sums.sha256.hexdigest(), _etag(made), sums.crc32c())

    async def upload(self, path: Path, key: str, content_type: str = "application/octet-stream") -> Stored:
        return await self.put(key, path, content_type)

    async def get(
        self, key: str, start: int = 0, end: int | None = None, generation: str = ""
    ) -> AsyncGenerator[bytes, None]:
        """See ``Storage``; with a generation (``Stat.etag``), of just that one: NotFound once it was replaced."""
        self._name(key)
        if end is not None and end <= start:
            await self.stat(key)
            return
        reading = _Reading(start, generation)
        while True:
            try:
                async with await self._open(key, reading.at, end, reading.generation) as response:
                    if response.status == 416:
                        return
                    reading.begins(response)
                    async for chunk in response.content.iter_chunked(BLOCK):
                        reading.got(chunk)
                        yield chunk
                break
            except TROUBLE as error:
                reading.failures += 1
                await self.to.bear(error, reading.failures, key)
        if start == 0 and end is None and not reading.whole():
            raise Retry(f"{key!r} arrived changed from the bucket {self.to.bucket!r} (CRC32C differs): try again.")

    async def download(self, key: str, path: Path) -> int:
        temporary = path.with_name(f".{uuid.uuid4().hex}.part")
        try:
            with as_ours("write"):
                writer = BlockWriter(temporary, digest=False)
                try:
                    async for chunk in self.get(key):
                        await writer.write(chunk)
                    await writer.finish()
                finally:
                    await writer.aclose()
                temporary.replace(path)
                return writer.size
        finally:
            temporary.unlink(missing_ok=True)

    def local_path(self, key: str) -> Path | None:
        checked(key)
        return None

    async def stat(self, key: str) -> Stat:
        name = self._name(key)
        return self._told(
            await self.to.patiently(lambda: self.to.client.download_metadata(self.to.bucket, name, timeout=30), key)
        )

    async def list(self, prefix: str = "") -> AsyncIterator[Stat]:
        params = {"prefix": self.prefix + prefix, "pageToken": "", "maxResults": "1000"}
        while True:
            page = await self.to.patiently(
                lambda: self.to.client.list_objects(self.to.bucket, params=dict(params), timeout=30),
                self.prefix + prefix,
            )
            for item in page.get("items", []):
                if not item["name"].endswith("/") and not item["name"].startswith(f"{self.prefix}{OWN}/"):
                    yield self._told(item)  # a name with a slash at its end: a folder made in the console of GCS
            params["pageToken"] = page.get("nextPageToken", "")
            if not params["pageToken"]:
                return

    async def delete(self, key: str) -> bool:
        name = self._name(key)
        try:
            await self.to.patiently(lambda: self.to.client.delete(self.to.bucket, name, timeout=30), key)
        except NotFound:
            return False
        return True

    async def delete_prefix(self, prefix: str) -> int:
        checked_prefix(prefix)
        removed = 0
        some: builtins.list[str] = []
        async for found in self.list(prefix):
            some.append(found.key)
            if len(some) == _AT_ONCE:
                removed += sum(await asyncio.gather(*map(self.delete, some)))
                some.clear()
        return removed + sum(await asyncio.gather(*map(self.delete, some)))

    async def copy(self, source: str, target: str) -> Stored:
        checked(target)
        found = await self.stat(source)
        about = self._about(found.content_type, found.metadata)
        if found.sha256:
            about["metadata"][SHA256] = found.sha256
        return await self._rewritten(found, target, about)

    async def session(self, key: str, size: int) -> str:
        """Open an upload of so many bytes and return its address: whoever has it may send them, in a week at most.

        https://cloud.google.com/storage/docs/performing-resumable-uploads
        """
        upload = ResumableUpload(self.to, self._name(key))
        return await self.to.patiently(lambda: upload.begin(self._about(_DATA, None), size), key)

    async def take(self, found: Stat, key: str, content_type: str, metadata: Mapping[str, str]) -> Stored:
        """Make an object of ours from what a client put there, exactly as it was seen.

        Raises:
            NotFound: it is there no more, or another has taken its place.
        """
        checked(key)
        about = self._about(content_type, metadata)
        if found.sha256:
            about["metadata"][SHA256] = found.sha256
        return await self._rewritten(found, key, about, {"sourceGeneration": found.etag})

    async def compose(self, names: Sequence[str], key: str, content_type: str, metadata: Mapping[str, str]) -> Stat:
        """Make an object of others (by their whole names in the bucket), without moving bytes; they stay.

        Raises:
            NotFound: one of them is not there.
            ValueError: none, or more than ``MOST_COMPOSED``.
        """
        if not 0 < len(names) <= MOST_COMPOSED:
            raise ValueError(f"{len(names)} objects cannot be composed at once.")
        target = self._name(key)
        await self.to.patiently(
            lambda: self.to.client.compose(self.to.bucket, target, list(names), content_type=content_type, timeout=60),
            names[0],
        )
        return await self._patch(key, {MARK: self.deployment, **metadata})

    def url(self, key: str) -> str:
        return f"gs://{self.to.bucket}/{self._name(key)}"

    async def signed_url(self, key: str, life: timedelta, filename: str | None = None) -> str | None:
        return await signed(self.to, self._name(key), life, filename=filename)

    async def sweep(self, older: timedelta) -> int:  # noqa: ARG002
        return 0  # GCS itself forgets within a week what was begun in one go

    async def check(self) -> None:
        try:
            await self.to.patiently(
                lambda: self.to.client.list_objects(self.to.bucket, params={"maxResults": "1"}, timeout=10), ""
            )
        except NotFound as error:
            raise Misconfigured(f"There is no bucket {self.to.bucket!r}: see KIOSK_STORAGE__URL.") from error

    async def aclose(self) -> None:
        await self.to.aclose()

    async def record_sha256(self, key: str, sha256: str) -> Stat:
        """Write the SHA-256 of an object down that came without one."""
        return await self._patch(key, {SHA256: sha256})

    async def _rewritten(
        self, found: Stat, target: str, about: dict[str, Any], params: dict[str, str] | None = None
    ) -> Stored:
        made = await self.to.patiently(
            lambda: self.to.client.copy(
                self.to.bucket,
                self.prefix + found.key,
                self.to.bucket,
                new_name=self.prefix + target,
                metadata={"Content-Type": about["contentType"], "metadata": about["metadata"]},
                params=dict(params or {}),
                timeout=60,
            ),
            found.key,
        )
        resource = made["resource"]
        return Stored(target, int(resource["size"]), found.sha256, _etag(resource), resource.get("crc32c", ""))

    # -- parts of put --

    async def _in_pieces(
        self, name: str, first: bytes, pieces: AsyncIterator[bytes], about: dict[str, Any]
    ) -> dict[str, Any]:
        upload = ResumableUpload(self.to, name)
        await self.to.patiently(lambda: upload.begin(about), name)
        try:
            await upload.send(first, last=False)
            async for piece in pieces:
                if len(piece) < PIECE:
                    return await upload.send(piece, last=True)
                await upload.send(piece, last=False)
            raise AssertionError("pieces end with a short one")
        except BaseException:
            await upload.abandon()
            raise

    def _about(self, content_type: str, metadata: Mapping[str, str] | None) -> dict[str, Any]:
        if taken := {MARK, SHA256} & set(metadata or {}):
            raise InvalidInput(f"The metadata key {min(taken)!r} is the storage's own: choose another.")
        return {"contentType": content_type, "metadata": {**(metadata or {}), MARK: self.deployment}}

    async def _compare(self, key: str, made: dict[str, Any], sums: _Sums) -> None:
        if made.get("crc32c", sums.crc32c()) == sums.crc32c() and int(made["size"]) == sums.size:
            return
        with contextlib.suppress(NotFound, Retry):
            await self.delete(key)
        raise Retry(f"{key!r} arrived changed in the bucket {self.to.bucket!r} (CRC32C differs): try again.")

    async def _patch(self, key: str, metadata: Mapping[str, str]) -> Stat:
        """Add to the object's metadata; its other entries stay, as PATCH has it."""
        name, body = self._name(key), {"metadata": dict(metadata)}
        await self.to.patiently(lambda: self.to.client.patch_metadata(self.to.bucket, name, body, timeout=30), key)
        return await self.stat(key)

    # -- parts of get --

    async def _open(self, key: str, start: int, end: int | None, generation: str) -> aiohttp.ClientResponse:
        """Begin to read; later tries ask for the same generation, lest two objects be mixed."""
        headers = {"Accept-Encoding": "identity"}
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        params = {"alt": "media"} | ({"generation": generation} if generation else {})
        url = URL(self.to.object_url(self._name(key)), encoded=True).update_query(params)
        return await self.to.request("GET", url, headers, frozenset({416}))

    def _name(self, key: str) -> str:
        return self.prefix + checked(key)

    def _told(self, item: dict[str, Any]) -> Stat:
        given = item.get("metadata") or {}
        return Stat(
            item["name"].removeprefix(self.prefix),
            int(item.get("size", 0)),
            datetime.fromisoformat(item["timeCreated"]).timestamp(),
            _etag(item),
            item.get("contentType") or "application/octet-stream",
            given.get(MARK, ""),
            given.get(SHA256, ""),
            {name: value for name, value in given.items() if name not in {MARK, SHA256}},
        )


class _Sums:
    """Checksums of a stream, as it passes."""

    def __init__(self) -> None:
        self.size = 0
        self.sha256 = hashlib.sha256()
        self._crc = google_crc32c.Checksum()

    def update(self, piece: bytearray) -> bytes:
        """Take a piece; return its bytes, and empty it."""
        data = bytes(piece)
        piece.clear()
        self.size += len(data)
        self.sha256.update(data)
        self._crc.update(data)
        return data

    def crc32c(self) -> str:
        return base64.b64encode(self._crc.digest()).decode()


class _Reading:
    """How far a stream from the bucket has come, over all tries."""

    def __init__(self, start: int, generation: str) -> None:
        self.at = start
        self.failures = 0
        self.generation = generation
        self._crc = google_crc32c.Checksum()
        self._expected = ""

    def begins(self, response: aiohttp.ClientResponse) -> None:
        self.generation = response.headers.get("X-Goog-Generation", self.generation)
        for sums in response.headers.getall("X-Goog-Hash", []):
            for one in sums.split(","):
                if one.strip().startswith("crc32c="):
                    self._expected = one.strip().removeprefix("crc32c=")

    def got(self, chunk: bytes) -> None:
        self.at += len(chunk)
        self.failures = 0
        self._crc.update(chunk)

    def whole(self) -> bool:
        return self._expected in {"", base64.b64encode(self._crc.digest()).decode()}


def _chunks(source: Source) -> Chunks:
    if isinstance(source, Path):
        return file_chunks(source)
    return once(source) if isinstance(source, bytes) else source


async def _pieces(chunks: Chunks, sums: _Sums) -> AsyncIterator[bytes]:
    """Yield pieces of exactly ``PIECE`` bytes, then one that is shorter (perhaps empty)."""
    piece = bytearray()
    async for chunk in chunks:
        view = memoryview(chunk)
        while len(piece) + len(view) >= PIECE:
            room = PIECE - len(piece)
            piece += view[:room]
            view = view[room:]
            yield await off_loop(sums.update, piece)
            piece = bytearray()
        piece += view
    yield await off_loop(sums.update, piece)


def _etag(item: Mapping[str, Any]) -> str:
    """Return the generation: unlike GCS's own ETag, it stays when only the description changes."""
    return str(item["generation"])
