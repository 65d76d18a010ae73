"""Uploads that go on where they broke off (tus 1.0), also in a later run of the program."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

from cellkiosk.errors import BadFile, NotFound, Refused
from cellkiosk.models import File
from cellkiosk.transport import Transport

Progress = Callable[[int, int], None]
"""Called with the bytes sent and the bytes in all."""

CHUNK = 32 * 1024 * 1024
"""Bytes of one request: below what proxies commonly allow."""
_PATH = "/api/v1/uploads"
_BLOCK = 256 * 1024
_VERSION = {"Tus-Resumable": "1.0.0"}
_BYTES = {"Content-Type": "application/offset+octet-stream"}
_CONFLICT = 409


class Upload:
    """One file on its way."""

    def __init__(
        self, to: Transport, source: BinaryIO, name: str, progress: Progress | None, mark: Path | None
    ) -> None:
        """Send nothing yet.

        Args:
            to: the server.
            source: the bytes; can be sought.
            name: for people.
            progress: told how far it came.
            mark: where to write down the upload's address, for a later run; None: nowhere.
        """
        self._to = to
        self._source = source
        self._name = name
        self._progress = progress
        self._mark = mark
        self._size = source.seek(0, os.SEEK_END)
        self._offset = 0
        self._known = False
        self._location = ""
        self._key = ""

    async def run(self) -> File:
        """Send it, whatever it takes, and return what it became.

        Raises:
            Unreachable, Refused: in the end.
        """
        self._location = self._remembered()
        self._known = not self._location
        await self._to.patiently(self._go_on, lambda: self._offset)
        self._forget()
        return File(self._key, self._name, self._size)

    async def _go_on(self) -> None:
        if not self._known:
            await self._look()
        if not self._location:
            await self._begin()
        while not self._key:
            await self._send()

    async def _look(self) -> None:
        """Ask how far it came: a request that broke off may have left more, or less, than was sent."""
        try:
            async with self._to.request("HEAD", self._location, _VERSION) as answer:
                self._told(int(answer.headers["Upload-Offset"]), answer.headers.get("Upload-Key", ""))
        except NotFound:
            self._forget()
            self._location = ""
            self._told(0, "")
        self._known = True

    async def _begin(self) -> None:
        name = base64.b64encode(self._name.encode()).decode()
        headers = {**_VERSION, "Upload-Length": str(self._size), "Upload-Metadata": f"filename {name}"}
        first = min(self._size, CHUNK)
        if self._size <= CHUNK:  # all in one request
            headers |= {**_BYTES, "Content-Length": str(first)}
        body = self._chunks(0, first) if self._size <= CHUNK else None
        async with self._to.request("POST", _PATH, headers, data=body) as answer:
            self._location = answer.headers["Location"]
            self._told(int(answer.headers.get("Upload-Offset", "0")), answer.headers.get("Upload-Key", ""))
        if not self._key:
            self._remember()

    async def _send(self) -> None:
        self._known = False
        length = min(CHUNK, self._size - self._offset)
        headers = {**_VERSION, **_BYTES, "Upload-Offset": str(self._offset), "Content-Length": str(length)}
        try:
            body = self._chunks(self._offset, length)
            async with self._to.request("PATCH", self._location, headers, data=body) as answer:
                self._told(int(answer.headers["Upload-Offset"]), answer.headers.get("Upload-Key", ""))
        except Refused as error:
            if error.status != _CONFLICT:
                raise
            await self._look()  # an older request of ours was still being written
        self._known = True

    async def _chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        end = start + length
        while start < end:
            block = await asyncio.to_thread(self._read, start, min(_BLOCK, end - start))
            if not block:
                raise BadFile(f"{self._name} became shorter while it was sent.")
            yield block
            start += len(block)
            self._report(start)

    def _read(self, start: int, length: int) -> bytes:
        self._source.seek(start)
        return self._source.read(length)

    def _told(self, offset: int, key: str) -> None:
        self._offset, self._key = offset, key
        self._report(offset)

    def _report(self, sent: int) -> None:
        if self._progress is not None:
            self._progress(sent, self._size)

    def _remembered(self) -> str:
        if self._mark is None:
            return ""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads(self._mark.read_text())["location"])
        return ""

    def _remember(self) -> None:
        if self._mark is not None:
            with contextlib.suppress(OSError):  # a home that cannot be written: then without
                self._mark.parent.mkdir(parents=True, exist_ok=True)
                self._mark.write_text(json.dumps({"location": self._location}))

    def _forget(self) -> None:
        if self._mark is not None:
            with contextlib.suppress(OSError):
                self._mark.unlink(missing_ok=True)


def mark_of(url: str, path: Path) -> Path | None:
    """Return where the address of a large file's upload is written down; None for a small one.

    The same path, size and time of change mean the same file.
    """
    status = path.stat()
    if status.st_size <= CHUNK:
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cellkiosk" / "uploads"
    what = f"{url}\n{path.resolve()}\n{status.st_size}\n{status.st_mtime_ns}"
    return cache / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.json"
