"""Event streams (Server-Sent Events), read until the jobs have ended, through cuts and restarts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterable, AsyncIterator
from typing import NamedTuple

import aiohttp

from cellkiosk.models import Event, event_of
from cellkiosk.transport import TROUBLE, Busy, Transport

_SILENCE = 45.0
"""s without a byte after which the connection is dead: the server sends a comment every 15 s."""


_NOTHING = 204


class Message(NamedTuple):
    """One message of a stream."""

    kind: str
    data: str
    id: str


async def follow(to: Transport, path: str) -> AsyncIterator[Event]:
    """Yield the changes that a stream tells, from the present state on, until the server says that all have ended.

    A connection that breaks is opened again, with the last event's id: no change is told twice, none is lost.

    Raises:
        NotFound: there is no such job (any more).
        Unreachable: the server stayed away for longer than the client's patience.
    """
    reading = _Reading(to, path)
    try:
        while not reading.over:
            for event in await to.patiently(reading.next, lambda: reading.last_id):
                yield event
    finally:
        await reading.close()


class _Reading:
    """A stream over all its connections."""

    def __init__(self, to: Transport, path: str) -> None:
        self._to = to
        self._path = path
        self._stack: contextlib.AsyncExitStack | None = None
        self._messages: AsyncIterator[Message] | None = None
        self.last_id = ""
        self.over = False

    async def next(self) -> list[Event]:
        """Return the next change, in a list; an empty list for a message that is none."""
        try:
            if self._messages is None:
                self._messages = await self._open()
            message = await anext(self._messages)
        except StopAsyncIteration:
            await self.close()
            if self.over:
                return []
            raise aiohttp.ServerDisconnectedError from None
        except (Busy, *TROUBLE):
            await self.close()
            raise
        return self._understood(message)

    async def close(self) -> None:
        self._messages = None
        if self._stack is not None:
            stack, self._stack = self._stack, None
            await stack.aclose()

    async def _open(self) -> AsyncIterator[Message]:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": self.last_id} if self.last_id else {})}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_SILENCE)
        self._stack = contextlib.AsyncExitStack()
        opening = self._to.request("GET", self._path, headers, timeout=timeout, read_bufsize=2**20)
        answer = await self._stack.enter_async_context(opening)
        self.over = answer.status == _NOTHING
        return messages(answer.content)

    def _understood(self, message: Message) -> list[Event]:
        self.last_id = message.id or self.last_id
        if message.kind == "end":
            self.over = True
        if message.kind == "gone":
            return [Event(json.loads(message.data)["id"], "canceled", 0, reason="The job was forgotten by the server.")]
        return [event_of(json.loads(message.data))] if message.kind == "job" else []


async def messages(lines: AsyncIterable[bytes]) -> AsyncIterator[Message]:
    """Yield the messages of a stream of lines (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    kind, last = "message", ""
    data: list[str] = []
    async for raw in lines:
        line = raw.decode(errors="replace").rstrip("\r\n")
        if not line:
            if data:
                yield Message(kind, "\n".join(data), last)
            kind, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            last = value
