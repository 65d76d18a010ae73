"""Keeps connections that say nothing, or take for ever to say it, from using up what is there for the others.

A client may open a connection and never finish the head of a request (slow-loris), open more of them than there are
files to be had, or never read what it asked for. aiohttp itself limits a head (8 KB a line, 128 lines) and the pause
between two requests; here are the time of a first head, the number of connections, and the patience with readers. How
fast a body comes is measured where it is read (``pace.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket

from aiohttp import web

from services.frontend import metrics
from services.frontend.settings import ConnectionSettings

#: Files kept for everything but connections: storage, Redis, logs.
_RESERVED = 200
_FEWEST = 50
#: Connections unless somebody says otherwise: each takes some 20 KB when it is an event stream.
_MOST = 20_000
_REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Guard:
    """The connections of one frontend that have not sent the head of a request yet: not many, and none for long."""

    def __init__(self, settings: ConnectionSettings) -> None:
        """Guard nothing yet."""
        self._seconds = settings.head_seconds
        self._most_silent = settings.silent
        self._most = settings.open or _affordable()
        self._reader_seconds = settings.reader_seconds
        self._server: web.Server | None = None
        #: In the order of arrival, which is that of their deadlines.
        self._silent: dict[asyncio.BaseProtocol, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def listen(self, runner: web.AppRunner, host: str, port: int) -> asyncio.Server:
        """Accept connections for a runner that is set up; port 0 takes a free one.

        Raises:
            OSError: the address cannot be listened at.
        """
        self._server = runner.server
        listening = await asyncio.get_running_loop().create_server(self._accept, host, port, backlog=1024)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # of Linux; each accepted connection has it from here
            for each in listening.sockets:
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(self._reader_seconds * 1000))
        return listening

    def heard(self, request: web.Request) -> None:
        """Take note that a connection has sent a head."""
        self._silent.pop(request.protocol, None)

    def close(self) -> None:
        """Watch no more."""
        self._silent.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _accept(self) -> asyncio.Protocol:
        assert self._server is not None
        if self._full():
            metrics.connections_closed.labels("too-many").inc()
            return _Refused()
        if len(self._silent) >= self._most_silent:
            self._drop(next(iter(self._silent)), "too-many-silent")
        handler = self._server()
        self._silent[handler] = asyncio.get_running_loop().time() + self._seconds
        self._wake_at_the_earliest()
        return handler

    def _full(self) -> bool:
        """Whether no more connections are to be had; aiohttp keeps closed ones until their handlers end."""
        assert self._server is not None
        known = self._server.connections
        return len(known) >= self._most and sum(one.transport is not None for one in known) >= self._most

    def _wake_at_the_earliest(self) -> None:
        if self._timer is None and self._silent:
            earliest = next(iter(self._silent.values()))
            self._timer = asyncio.get_running_loop().call_at(earliest, self._end_the_late)

    def _end_the_late(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._silent and next(iter(self._silent.values())) <= now:
            self._drop(next(iter(self._silent)), "slow-head")
        self._wake_at_the_earliest()

    def _drop(self, handler: asyncio.BaseProtocol, why: str) -> None:
        del self._silent[handler]
        if isinstance(handler, web.RequestHandler) and handler.transport is not None:
            metrics.connections_closed.labels(why).inc()
            handler.force_close()


class _Refused(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(_REFUSAL)
        transport.close()


def raise_open_files() -> None:
    """Let this process open as many files as it may; what it is given at first is often only 1024."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):  # macOS has "unlimited" here, and refuses it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _affordable() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(_MOST, max(_FEWEST, files - _RESERVED))
