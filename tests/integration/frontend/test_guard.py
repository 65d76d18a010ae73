"""Clients that keep connections busy: slow heads and bodies, bombs, too many, never reading, gone in the middle.

Real sockets on a real frontend; afterwards no task, open file, temporary file or connection is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from services.frontend.guard import Guard
from services.frontend.settings import ConnectionSettings
from tests.fixtures.frontend import TIFF, Serve, Served
from tests.fixtures.redis import RedisServer

_HEAD = b"POST /api/predict HTTP/1.1\r\nHost: kiosk\r\nContent-Type: application/json\r\n"
_FILE = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.tif"\r\n\r\n' + TIFF
_MULTIPART = b"POST /api/upload HTTP/1.1\r\nHost: kiosk\r\nContent-Type: multipart/form-data; boundary=edge\r\n"
_TUS = (
    b"POST /api/v1/uploads HTTP/1.1\r\nHost: kiosk\r\nTus-Resumable: 1.0.0\r\nUpload-Length: 100000\r\n"
    b"Content-Type: application/offset+octet-stream\r\n"
)
_WELL = b"GET /api/health-check HTTP/1.1\r\nHost: kiosk\r\n\r\n"
_LENGTH = b"Content-Length: 100000\r\n\r\n"


class Line:
    """One connection, read and written byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        """Send, also to a server that has closed the connection."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def rest(self) -> bytes:
        """Return all that still comes, until the server closes the connection."""
        async with asyncio.timeout(20):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""
            finally:
                self.writer.close()

    async def answer(self) -> tuple[int, bytes]:
        """Return status and body of one answer."""
        async with asyncio.timeout(20):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            return int(head.split()[1]), await self.reader.readexactly(length)


async def _line(served: Served) -> Line:
    where = urlsplit(served.url)
    return Line(*await asyncio.open_connection(where.hostname, where.port))


async def _trickle(line: Line, piece: bytes) -> None:
    """Send a piece every 50 ms until the server has had enough."""
    more = True
    while more:
        await line.send(piece)
        try:
            async with asyncio.timeout(0.05):
                more = bool(await line.reader.read(1))
        except TimeoutError:
            continue
        except ConnectionError:
            break
    line.writer.close()


def _files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _leftovers(served: Served) -> list[str]:
    folder: Path = served.front.storage.folder  # type: ignore[attr-defined]
    return [path.name for path in folder.rglob("*") if path.is_file()]


async def _quiet(tasks: int, files: int) -> None:
    """Wait until no more tasks run and no more files are open than before."""
    async with asyncio.timeout(20):
        while len(asyncio.all_tasks()) > tasks or _files() > files:
            await asyncio.sleep(0)


@pytest.fixture
async def impatient(serve: Serve) -> AsyncIterator[Served]:
    """A frontend with little patience, in which nothing may be left when the test is over."""
    served = await serve(
        connections={"head_seconds": 0.3, "silent": 50, "reader_seconds": 0.5, "linger_seconds": 0.2},
        uploads={"idle_seconds": 0.3, "min_rate": 10_000},
    )
    assert (await served.get("/api/health-check"))[0] == 200
    await served.upload()
    tasks, files = len(asyncio.all_tasks()), _files()
    yield served
    await _quiet(tasks, files)


@pytest.mark.parametrize("sent", [b"", b"GET", b"GET /api/health-check HTTP/1.1\r\n", _HEAD])
async def test_a_head_that_never_ends_ends_the_connection(impatient: Served, sent: bytes) -> None:
    line = await _line(impatient)
    await line.send(sent)
    assert await line.rest() == b""


async def test_a_head_that_comes_a_line_at_a_time_is_no_better(impatient: Served) -> None:
    line = await _line(impatient)
    await line.send(_HEAD)
    await _trickle(line, b"X-A: b\r\n")


async def test_a_connection_that_was_heard_stays(impatient: Served) -> None:
    heard = await _line(impatient)
    await heard.send(_WELL)
    assert (await heard.answer())[0] == 200
    assert await (await _line(impatient)).rest() == b"", "the time is over for one that came later and said nothing"
    await heard.send(_WELL[:20])
    await heard.send(_WELL[20:])
    assert (await heard.answer())[0] == 200
    heard.writer.close()


async def test_many_silent_connections_make_room_for_new_ones(serve: Serve) -> None:
    served = await serve(connections={"head_seconds": 60, "silent": 3})
    silent = [await _line(served) for _ in range(6)]
    for line in silent[:3]:
        assert await line.rest() == b"", "the oldest go first"
    for line in silent[4:]:
        await line.send(_WELL)
        assert (await line.answer())[0] == 200
    for line in silent:
        line.writer.close()


async def test_a_connection_too_many_is_told_to_come_again(serve: Serve) -> None:
    served = await serve(connections={"open": 2})
    lines = [await _line(served) for _ in range(2)]
    for line in lines:
        await line.send(_WELL)
        assert (await line.answer())[0] == 200
    told = await (await _line(served)).rest()
    assert told.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 2" in told
    for line in lines:
        line.writer.close()
    async with asyncio.timeout(10):
        status = 503
        while status == 503:
            line = await _line(served)
            await line.send(_WELL)
            status, _ = await line.answer()
            line.writer.close()


async def test_a_connection_that_was_closed_does_not_count_though_its_handler_still_runs() -> None:
    entered, over = asyncio.Semaphore(0), asyncio.Event()

    async def stay(_request: web.Request) -> web.Response:
        entered.release()
        await over.wait()
        return web.Response()

    app = web.Application()
    app.router.add_get("/", stay)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    guard = Guard(ConnectionSettings(open=2))
    listening = await guard.listen(runner, "127.0.0.1", 0)
    where = listening.sockets[0].getsockname()[:2]
    async with asyncio.timeout(10):
        lines = [Line(*await asyncio.open_connection(*where)) for _ in range(2)]
        for line in lines:
            await line.send(b"GET / HTTP/1.1\r\nHost: kiosk\r\n\r\n")
            await entered.acquire()
        for line in lines:
            line.writer.close()
        told = b"HTTP/1.1 503 "
        while told.startswith(b"HTTP/1.1 503 "):  # until the server has seen that they are closed
            line = Line(*await asyncio.open_connection(*where))
            await line.send(b"GET /none HTTP/1.1\r\nHost: kiosk\r\nConnection: close\r\n\r\n")
            told = await line.rest()
    assert told.startswith(b"HTTP/1.1 404 ")
    assert runner.server is not None
    assert len(runner.server.connections) >= 2, "their handlers still run"
    over.set()
    guard.close()
    listening.close()
    await runner.cleanup()


@pytest.mark.skipif(sys.platform != "linux", reason="the limits of another process are read from /proc")
async def test_a_frontend_opens_as_many_files_as_it_may(redis_server: RedisServer, prefix: str, tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", f"ulimit -S -n 256; exec {sys.executable} -m services.frontend",
        env={
            **os.environ, "KIOSK_HOST": "127.0.0.1", "KIOSK_PORT": "0", "KIOSK_HEALTH__PORT": "0",
            "KIOSK_REDIS__URL": redis_server.url, "KIOSK_REDIS__PREFIX": prefix,
            "KIOSK_STORAGE__URL": (tmp_path / "storage").as_uri(),
        },
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    said = []
    while line := await process.stdout.readline():
        said.append(line.decode())
        if b'"listening"' in line:
            break
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    process.terminate()
    await process.communicate()
    (files,) = [line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files")]
    assert files == [str(hard)] * 2, said


@pytest.mark.parametrize(
    "bomb",
    [
        b"GET / HTTP/1.1\r\nHost: kiosk\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(5_000)) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: kiosk\r\nX-Long: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X" * 100_000 + b": y\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: kiosk\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: kiosk\r\nCookie: " + b"a=b; " * 20_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: kiosk\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /api/predict HTTP/1.1\r\nHost: kiosk\r\nContent-Length: -5\r\n\r\n",
    ],
    ids=["many", "long value", "long name", "long line", "cookies", "tls", "version", "smuggling", "negative"],
)
async def test_a_bomb_in_the_head_is_answered_once_and_the_connection_ends(impatient: Served, bomb: bytes) -> None:
    line = await _line(impatient)
    await line.send(bomb)
    answer = await line.rest()
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert b"Traceback" not in answer


async def test_an_endless_head_is_not_kept_in_memory(impatient: Served) -> None:
    line = await _line(impatient)
    await line.send(b"GET / HTTP/1.1\r\nX-Endless: ")
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 200_000_000:
            line.writer.write(b"y" * 65_536)
            await line.writer.drain()
            sent += 65_536
    assert sent < 50_000_000, "the connection ends long before"
    line.writer.close()


@pytest.mark.parametrize("head", [_HEAD, _MULTIPART, _TUS], ids=["json", "multipart", "tus"])
@pytest.mark.parametrize("sent", [b"", b"{", _FILE], ids=["nothing", "a byte", "a start"])
async def test_a_body_that_stops_is_given_up(impatient: Served, head: bytes, sent: bytes) -> None:
    line = await _line(impatient)
    await line.send(head + _LENGTH + (sent if head != _TUS or len(sent) < 2 else TIFF))
    status, body = await line.answer()
    assert (status, json.loads(body)["code"]) == (408, "too-slow")
    assert await line.rest() == b""


@pytest.mark.parametrize("head", [_HEAD, _MULTIPART, _TUS], ids=["json", "multipart", "tus"])
async def test_a_body_that_trickles_is_given_up(impatient: Served, head: bytes) -> None:
    line = await _line(impatient)
    await line.send(head + _LENGTH + (_FILE if head == _MULTIPART else TIFF if head == _TUS else b"{"))
    await _trickle(line, b" ")


async def test_headers_of_a_part_that_trickle_are_given_up(impatient: Served) -> None:
    line = await _line(impatient)
    await line.send(_MULTIPART + _LENGTH + b"--edge\r\n")
    await _trickle(line, b"X-A: b\r\n")


@pytest.mark.parametrize("head", [_HEAD, _MULTIPART, _TUS], ids=["json", "multipart", "tus"])
async def test_a_client_that_goes_in_the_middle_leaves_nothing(impatient: Served, head: bytes) -> None:
    before = _leftovers(impatient)
    tasks, files = len(asyncio.all_tasks()), _files()
    lines = [await _line(impatient) for _ in range(30)]
    for line in lines:
        await line.send(head + _LENGTH + (_FILE if head == _MULTIPART else TIFF if head == _TUS else b"{"))
    for number, line in enumerate(lines):
        if number % 2:  # a reset, and not only an end
            linger = b"\1\0\0\0\0\0\0\0"
            line.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        line.writer.close()
    await _quiet(tasks, files)
    kept = {"about", "data"} if head == _TUS else set()  # what came of a resumable upload is kept, to be resumed
    assert sorted(name for name in _leftovers(impatient) if name not in kept) == sorted(before)


@pytest.mark.skipif(sys.platform != "linux", reason="the patience with readers is the Linux kernel's")
async def test_a_client_that_never_reads_is_given_up(impatient: Served) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        yield TIFF
        for _ in range(60):
            yield bytes(500_000)

    await impatient.front.storage.put("uploads/large.tif", blocks())
    tasks, files = len(asyncio.all_tasks()), _files()
    where = urlsplit(impatient.url)
    with socket.socket() as deaf:
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(deaf, (where.hostname, where.port))
        await loop.sock_sendall(deaf, b"GET /uploads/large.tif HTTP/1.1\r\nHost: kiosk\r\n\r\n")
        await _quiet(tasks, files + 1)  # this socket is ours


async def test_a_thousand_silent_connections_do_not_keep_others_out(impatient: Served) -> None:
    lines = [await _line(impatient) for _ in range(300)]
    for line in lines:
        await line.send(_HEAD)
    assert (await impatient.get("/api/health-check"))[0] == 200
    assert [await line.rest() for line in lines] == [b""] * 300


def test_no_more_connections_are_borne_than_memory_is_meant_for(monkeypatch: pytest.MonkeyPatch) -> None:
    most = []
    for files in (100, 1_024, 1_048_576):
        monkeypatch.setattr(resource, "getrlimit", lambda _kind, files=files: (files, files))
        most.append(Guard(ConnectionSettings())._most)
    assert most == [50, 824, 20_000]
    assert Guard(ConnectionSettings(open=100_000))._most == 100_000
