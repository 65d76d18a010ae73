"""Files that arrive: streamed to storage within limits, looked at, and recorded."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from aiohttp import web

from services.frontend import metrics, sniff
from services.frontend.multipart import Multipart, Part, boundary_of
from services.frontend.pace import Pace
from services.frontend.settings import UploadSettings
from services.frontend.sharing import Sharing
from shared.errors import InvalidInput, KioskError, NotFound, Retry
from shared.jobs import JobStore
from shared.jobs.sharing import SharedUpload
from shared.storage import Storage

#: Folder in storage where all uploads are.
UPLOADS = "uploads/"
#: s for which the owner of a file is remembered, and for how many files.
_REMEMBERED = 30.0
_MOST_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class Upload:
    """A stored file: its key in storage, the name it was sent with, bytes, SHA-256 (hex) and media type."""

    key: str
    name: str
    size: int
    sha256: str
    media_type: str


@dataclass(frozen=True, slots=True)
class Found:
    """A file in storage: its key, its name for people, and whose it is; None: somebody placed it there."""

    key: str
    name: str
    owner: str | None


class Uploads:
    """Receives files for one frontend."""

    def __init__(self, settings: UploadSettings, storage: Storage, store: JobStore) -> None:
        """Store what comes in."""
        self._settings = settings
        self._storage = storage
        self._store = store
        self._sharing = Sharing(store, storage)
        self.running = 0
        """Uploads that are being received just now."""
        self._known: dict[str, tuple[float, Found]] = {}

    async def receive(self, chunks: AsyncIterator[bytes], filename: str, owner: str) -> Upload:
        """Store one file as it arrives.

        Raises:
            InvalidInput: it is empty, of no known kind, or larger than allowed; nothing stays behind.
            StorageFull, Retry: there is no room, or the storage is away.
        """
        name = sniff.base_name(filename)
        limited = self._within_limits(chunks, name)
        with self._counted():
            head = await _head(limited)
            kind = sniff.checked(name, head)
            key = f"{UPLOADS}{secrets.token_hex(16)}{stored_ending(name, kind)}"
            about = {"owner": owner, "name": name}
            stored = await self._storage.put(key, _after(head, limited), kind.media_type, about)
            await self._sharing.settle(stored, name, owner)
        self._remember(Found(key, name, owner))
        return Upload(key, name, stored.size, stored.sha256, kind.media_type)

    async def receive_form(self, request: web.Request, owner: str) -> Upload:
        """Store the one file of a form, and read the rest of the form; raises as `receive` does."""
        parts = self.multipart(request).parts()
        part = await first_file(parts)
        stored = await self.receive(part.chunks, part.filename or "", owner)
        async for _rest in parts:
            pass
        return stored

    def multipart(self, request: web.Request) -> Multipart:
        """Return the parts of a request's body, read with patience but not for ever."""
        pace = Pace(self._settings)
        boundary = boundary_of(request.headers.get("Content-Type", ""))
        return Multipart(lambda: pace.read(request.content), boundary, self._settings.max_parts)

    async def find(self, name: str, owner: str, *, must_exist: bool = True) -> Found:
        """Return an uploaded file that an owner may use, named with or without its folder.

        Raises:
            NotFound: there is none, or it is another's.
        """
        key = key_of(name)
        found = await self._look(key)
        if found is None and not must_exist:
            return Found(key, key.rsplit("/", 1)[-1], owner)
        if found is None or found.owner not in {None, owner}:
            raise NotFound(f"There is no uploaded file {name!r}. Upload it first.", code="no-such-file")
        return found

    async def _look(self, key: str) -> Found | None:
        # Whose a file is never changes; a job on one that was deleted meanwhile fails with a sentence.
        known = self._known.get(key)
        if known is not None and time.monotonic() - known[0] < _REMEMBERED:
            return known[1]
        shared: SharedUpload | None = None
        try:
            about = (await self._storage.stat(key)).metadata
        except NotFound:
            shared = await self._store.shared(key)
            if shared is None:
                return None
            about = (await self._storage.stat(shared.object)).metadata
        name = shared.name if shared else about.get("name")
        found = Found(key, name or key.rsplit("/", 1)[-1], about.get("owner"))
        self._remember(found)
        return found

    def _remember(self, found: Found) -> None:
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[found.key] = (time.monotonic(), found)

    async def _within_limits(self, chunks: AsyncIterator[bytes], name: str) -> AsyncIterator[bytes]:
        most, size = self._settings.max_bytes, 0
        async for chunk in chunks:
            size += len(chunk)
            if size > most:
                raise InvalidInput(f"The file {name!r} is larger than the {most:,} bytes allowed.", code="too-large")
            metrics.upload_bytes.inc(len(chunk))
            yield chunk

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Be one of the uploads that are received at once.

        Raises:
            Retry: there are enough of them.
        """
        if self.running >= self._settings.concurrent:
            raise Retry(f"{self.running} uploads are being received already; try again in a moment.", after=2.0)
        self.running += 1
        metrics.uploading.inc()
        try:
            yield
        finally:
            self.running -= 1
            metrics.uploading.dec()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self.turn():
            try:
                yield
            except InvalidInput:
                metrics.uploads.labels("refused").inc()
                raise
            except (KioskError, ConnectionError, asyncio.CancelledError):
                metrics.uploads.labels("broken").inc()
                raise


async def first_file(parts: AsyncIterator[Part], field: str = "file") -> Part:
    """Return the part that holds a file, from the field of a name.

    Raises:
        InvalidInput: there is none.
    """
    async for part in parts:
        if part.name == field and part.filename is not None:
            return part
    raise InvalidInput(f"The body has no file in the field {field!r}.", code="no-file")


def key_of(name: str) -> str:
    """Return the storage key of an uploaded file that a client names.

    Raises:
        InvalidInput: no upload could have this name.
    """
    key = name if name.startswith(UPLOADS) else UPLOADS + name
    if any(part in {"", ".", ".."} for part in key.split("/")) or not key.isprintable() or len(key.encode()) > 1024:
        raise InvalidInput(f"{name[:80]!r} is not the name of an uploaded file.", code="bad-name")
    return key


def stored_ending(name: str, kind: sniff.Kind) -> str:
    """Return the ending of a stored file: as the user wrote it, or that of its kind where it has none."""
    length = len(sniff.ending_of(name))
    return name[-length:] if length else kind.endings[0]


async def _head(chunks: AsyncIterator[bytes]) -> bytes:
    found = b""
    while len(found) < sniff.HEAD:
        chunk = await anext(chunks, b"")
        if not chunk:
            break
        found += chunk
    return found


async def _after(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield head
    async for chunk in rest:
        yield chunk
