"""Requests to one server: tried again while the trouble may pass, their errors told in a sentence."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import aiohttp

from cellkiosk.errors import KioskError, NotAllowed, NotFound, Refused, Unreachable

R = TypeVar("R")

PASSING = {408, 425, 429, 502, 503, 504}
"""Answers after which another try may help."""
TROUBLE = (aiohttp.ClientError, TimeoutError, ConnectionError)
"""What a request may raise when the network or the server is away."""


class Busy(KioskError):
    """The server asks to come again; ends as ``Refused`` when patience ends."""

    def __init__(self, refused: Refused, after: float | None) -> None:
        super().__init__(str(refused))
        self.refused = refused
        self.after = after


class Transport:
    """The way to one server."""

    def __init__(self, url: str, key: str | None, patience: float) -> None:
        """Open nothing yet.

        Args:
            url: of the server, such as ``http://127.0.0.1:8080``.
            key: API key; None where the server lets everybody in.
            patience: s during which a request that fails for reasons that may pass is tried again.
        """
        self.url = url.rstrip("/")
        self.patience = patience
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._session: aiohttp.ClientSession | None = None

    async def json(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """Send JSON and return the JSON of the answer."""

        async def once() -> Any:
            async with self.request(method, path, json=body, **more) as answer:
                return await answer.json(content_type=None)

        return await self.patiently(once)

    @contextlib.asynccontextmanager
    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **more: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send one request, once; the context is its answer, which is no error.

        Raises:
            Refused: it is one.
            Busy: it is one that may pass.
        """
        more.setdefault("timeout", aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60))
        address = path if path.startswith("http") else self.url + path
        given = {**self._headers, **(headers or {})} if address.startswith(self.url + "/") else headers
        async with self._opened().request(method, address, headers=given, **more) as answer:
            if answer.status >= 400:
                raise await _refusal(answer)
            yield answer

    async def patiently(
        self,
        call: Callable[[], Awaitable[R]],
        progressed: Callable[[], Any] | None = None,
        patience: float | None = None,
    ) -> R:
        """Await ``call()`` until it succeeds, or fails in a way that will not pass, or patience ends.

        Args:
            call: what to do.
            progressed: tells how far it came; while that changes, patience begins anew.
            patience: s; the client's by default.

        Raises:
            Unreachable: the server did not answer.
            Refused: it answered no.
        """
        longest = self.patience if patience is None else patience
        began, failures, last = time.monotonic(), 0, progressed() if progressed else None
        while True:
            try:
                return await call()
            except (Busy, *TROUBLE) as error:
                if progressed and progressed() != last:
                    began, failures, last = time.monotonic(), 0, progressed()
                pause = _pause(error, failures)
                failures += 1
                if time.monotonic() + pause > began + longest:
                    raise self._ended(error) from error
                await asyncio.sleep(pause)

    async def aclose(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32))
        return self._session

    def _ended(self, error: Exception) -> KioskError:
        if isinstance(error, Busy):
            return error.refused
        why = _why(error)
        return Unreachable(f"The server at {self.url} does not answer{why}. Is it running, and is the address right?")


def _why(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ": there is no such host"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f": {os.strerror(error.errno).lower()}" if error.errno else ": no connection"
    return f" ({type(error).__name__})"


def _pause(error: Exception, failures: int) -> float:
    if isinstance(error, Busy) and error.after is not None:
        return error.after
    return random.random() * min(10.0, 0.25 * 2.0 ** min(failures, 10))


async def _refusal(answer: aiohttp.ClientResponse) -> KioskError:
    sentence, code = f"The server answered with HTTP status {answer.status}.", "http-error"
    with contextlib.suppress(ValueError, TypeError, *TROUBLE):
        told = json.loads(await answer.read())
        if isinstance(told, dict):
            sentence = str(told.get("detail") or told.get("message") or sentence)
            code = str(told.get("code") or code)
    kind = {401: NotAllowed, 403: NotAllowed, 404: NotFound, 410: NotFound}.get(answer.status, Refused)
    refused = kind(sentence, answer.status, code)
    if answer.status not in PASSING:
        return refused
    with contextlib.suppress(ValueError):
        return Busy(refused, min(60.0, max(0.0, float(answer.headers.get("Retry-After", "")))))
    return Busy(refused, None)
