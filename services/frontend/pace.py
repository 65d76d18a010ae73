"""How fast the bodies of requests come."""

from __future__ import annotations

import asyncio
import time

from aiohttp import StreamReader

from services.frontend.settings import UploadSettings
from shared.errors import InvalidInput


class Pace:
    """How fast a body comes: refused when a stretch of silence is too long, or the average too low."""

    def __init__(self, settings: UploadSettings) -> None:
        """Begin to measure."""
        self._idle = settings.idle_seconds
        self._rate = settings.min_rate
        self._started = time.monotonic()
        self._size = 0

    async def read(self, content: StreamReader) -> bytes:
        """Return the next bytes of a body, b"" at its end.

        Raises:
            InvalidInput: with the code ``too-slow``.
        """
        # What is there already needs no patience, nor a timer.
        chunk = content.read_nowait() or await self._wait(content)
        self._size += len(chunk)
        elapsed = time.monotonic() - self._started
        if chunk and elapsed > self._idle and self._size < self._rate * (elapsed - self._idle):
            raise InvalidInput(f"The body comes slower than {self._rate:,} bytes/s: it was given up.", code="too-slow")
        return chunk

    async def _wait(self, content: StreamReader) -> bytes:
        try:
            async with asyncio.timeout(self._idle):
                return await content.readany()
        except TimeoutError as error:
            raise InvalidInput(f"Nothing was sent for {self._idle:g} s: it was given up.", code="too-slow") from error
