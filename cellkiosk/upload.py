"""Uploads that go on where they broke off (tus 1.0), also in a later run of the program."""

from __future__ import annotations

import base64

from cellkiosk import sending
from cellkiosk.errors import NotFound, Refused
from cellkiosk.models import File
from cellkiosk.sending import Outgoing
from cellkiosk.transport import Transport

_PATH = "/api/v1/uploads"
_VERSION = {"Tus-Resumable": "1.0.0"}
_BYTES = {"Content-Type": "application/offset+octet-stream"}
_CONFLICT = 409


class Upload:
    """One file on its way."""

    def __init__(self, to: Transport, file: Outgoing) -> None:
        """Send nothing yet."""
        self._to = to
        self._file = file
        self._offset = 0
        self._known = False
        self._location = ""
        self._key = ""

    async def run(self) -> File:
        """Send it, whatever it takes, and return what it became.

        Raises:
            Unreachable, Refused: in the end.
        """
        self._location = self._file.remembered().get("location", "")
        self._known = not self._location
        await self._to.patiently(self._go_on, lambda: self._offset)
        self._file.forget()
        return File(self._key, self._file.name, self._file.size)

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
            self._file.forget()
            self._location = ""
            self._told(0, "")
        self._known = True

    async def _begin(self) -> None:
        size = self._file.size
        name = base64.b64encode(self._file.name.encode()).decode()
        headers = {**_VERSION, "Upload-Length": str(size), "Upload-Metadata": f"filename {name}"}
        at_once = size <= sending.CHUNK
        if at_once:
            headers |= {**_BYTES, "Content-Length": str(size)}
        body = self._file.chunks(0, size) if at_once else None
        async with self._to.request("POST", _PATH, headers, data=body) as answer:
            self._location = answer.headers["Location"]
            self._told(int(answer.headers.get("Upload-Offset", "0")), answer.headers.get("Upload-Key", ""))
        if not self._key:
            self._file.remember(location=self._location)

    async def _send(self) -> None:
        self._known = False
        length = min(sending.CHUNK, self._file.size - self._offset)
        headers = {**_VERSION, **_BYTES, "Upload-Offset": str(self._offset), "Content-Length": str(length)}
        try:
            body = self._file.chunks(self._offset, length)
            async with self._to.request("PATCH", self._location, headers, data=body) as answer:
                self._told(int(answer.headers["Upload-Offset"]), answer.headers.get("Upload-Key", ""))
        except Refused as error:
            if error.status != _CONFLICT:
                raise
            await self._look()  # an older request of ours was still being written
        self._known = True

    def _told(self, offset: int, key: str) -> None:
        self._offset, self._key = offset, key
        self._file.told(offset)
