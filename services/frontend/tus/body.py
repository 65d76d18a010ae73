"""The bytes that a request brings, within limits of size and patience."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.http_exceptions import PayloadEncodingError

from services.frontend.pace import Pace
from services.frontend.settings import UploadSettings
from shared.errors import InvalidInput


class Body:
    """A request's body as it arrives. Iterating raises when it breaks off; what came before counts."""

    def __init__(self, request: web.Request, room: int, settings: UploadSettings) -> None:
        """Read a request.

        Args:
            request: whose body.
            room: bytes that may come.
            settings: how patient to be.
        """
        self._content = request.content
        self._room = room
        self._pace = Pace(settings)
        self._head = b""
        self._trouble: Exception | None = None
        self.taken = 0

    async def peek(self, length: int) -> bytes:
        """Return the first bytes, fewer if the body ends or breaks off before; iterating yields them again."""
        try:
            while len(self._head) < length and (chunk := await self._read()):
                self._head += chunk
        except (InvalidInput, ConnectionError) as error:
            self._trouble = error
        return self._head[:length]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        head, self._head = self._head, b""
        if head:
            yield head
        if self._trouble is not None:
            raise self._trouble
        while chunk := await self._read():
            yield chunk

    async def _read(self) -> bytes:
        try:
            chunk = await self._pace.read(self._content)
        except (web.RequestPayloadError, PayloadEncodingError) as error:
            raise InvalidInput("The body is not encoded as its headers say.", code="bad-body") from error
        self.taken += len(chunk)
        if self.taken > self._room:
            raise InvalidInput("The request brings more bytes than are missing.", code="too-large")
        return chunk
