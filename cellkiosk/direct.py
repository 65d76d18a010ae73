"""Large files go straight to the server's bucket, where it has one: in pieces, going on where they broke off.

The server opens a session of the bucket and names its address; the bytes pass it by. The session speaks the protocol of
https://cloud.google.com/storage/docs/performing-resumable-uploads. Where the server has no bucket, or this machine
cannot reach it, the file is sent through the server.
"""

from __future__ import annotations

import re

import aiohttp

from cellkiosk import sending
from cellkiosk.errors import NotFound, Refused, Unreachable
from cellkiosk.models import File
from cellkiosk.sending import Outgoing
from cellkiosk.transport import PASSING, Transport

_PATH = "/api/v1/files/direct"
_FIRST = 15.0
"""s in which the bucket must have answered once."""
_CONFIRMING = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=900)
"""The server reads a new file once, for its checksum, before it answers."""


class NotOffered(Exception):  # no error: there is another way
    """The file cannot go straight to a bucket."""


class DirectUpload:
    """One file on its way to the bucket."""

    def __init__(self, to: Transport, file: Outgoing) -> None:
        """Send nothing yet."""
        self._to = to
        self._file = file
        was = file.remembered()
        self._session, self._confirm = was.get("session", ""), was.get("confirm", "")
        self._known = not self._session
        self._offset = 0

    async def run(self) -> File:
        """Send it, whatever it takes, and return what it became.

        Raises:
            NotOffered: the server has no bucket, or the bucket is not to be had from here; nothing is left to resume.
            Unreachable, Refused: the server said so in the end.
        """
        try:
            if not self._session:
                await self._begin()
            await self._send_all()
            raw = await self._to.json("POST", self._confirm, timeout=_CONFIRMING)
        except NotFound as error:  # unfinished for more than a day
            self._file.forget()
            raise NotOffered from error
        except Refused as error:
            if error.status not in PASSING:
                self._file.forget()
            raise
        self._file.forget()
        return File(raw["file"], self._file.name, self._file.size)

    async def _begin(self) -> None:
        wish = {"name": self._file.name, "size": self._file.size, "resumable": True}
        try:
            begun = await self._to.json("POST", _PATH, wish)
        except NotFound as error:
            raise NotOffered from error
        self._session, self._confirm, self._offset = begun["url"], begun["confirm"], 0
        self._file.remember(session=self._session, confirm=self._confirm)

    async def _send_all(self) -> None:
        try:
            await self._to.patiently(self._step, patience=min(_FIRST, self._to.patience))
            await self._to.patiently(self._go_on, lambda: self._offset)
        except (Refused, Unreachable) as error:
            self._file.forget()
            raise NotOffered from error

    async def _go_on(self) -> None:
        while self._offset < self._file.size:
            await self._step()

    async def _step(self) -> None:
        """Send a piece; after trouble, or in a later run, ask first how much has arrived."""
        if self._known:
            await self._send()
        else:
            await self._look()

    async def _look(self) -> None:
        try:
            await self._put("*", 0)
        except NotFound:  # forgotten there, or it is over a week old
            self._file.forget()
            await self._begin()
        self._known = True

    async def _send(self) -> None:
        start, self._known = self._offset, False
        length = min(sending.CHUNK, self._file.size - start)
        await self._put(f"{start}-{start + length - 1}", length)
        if self._offset <= start:
            raise ConnectionError("The bucket took no bytes.")
        self._known = True

    async def _put(self, part: str, length: int) -> None:
        """Send some bytes, or with none ask how many have arrived."""
        headers = {"Content-Range": f"bytes {part}/{self._file.size}", "Content-Length": str(length)}
        body = self._file.chunks(self._offset, length) if length else None
        async with self._to.request("PUT", self._session, headers, data=body, allow_redirects=False) as answer:
            arrived = re.fullmatch(r"(?:bytes=)?0-(\d+)", answer.headers.get("Range", ""))
            complete = answer.status < 300
            self._offset = self._file.size if complete else int(arrived[1]) + 1 if arrived else 0
        self._file.told(self._offset)
