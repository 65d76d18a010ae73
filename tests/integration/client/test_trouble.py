"""Uploads, event streams and downloads through connections that break and programs that are killed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from cellkiosk import AsyncClient, Refused, Unreachable, sending
from cellkiosk.results import download
from cellkiosk.sending import mark_of
from shared.storage import Storage, open_storage, read_all
from tests.fixtures.frontend import Served
from tests.integration.tus.serve import make_app, serving

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(f"file://{tmp_path}/root")


@pytest.fixture
def data() -> bytes:
    return b"II*\0" + random.Random(2).randbytes(900_000)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "CHUNK", 300_000)


class Breaking:
    """A middleware that breaks chosen requests: before, in the middle, or after they were done."""

    def __init__(self) -> None:
        self.plan: list[tuple[str, str]] = []
        self.seen: list[str] = []

    def app(self, storage: Storage) -> web.Application:
        app = make_app(storage)

        @web.middleware
        async def broken(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._handle(request, handler)

        app.middlewares.append(broken)
        return app

    async def _handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if "/files/direct" in request.path:
            return await handler(request)  # a folder has none
        self.seen.append(request.method)
        how = self.plan.pop(0)[1] if self.plan and self.plan[0][0] == request.method else ""
        if how.isdigit():
            return web.Response(status=int(how), headers={"Retry-After": "0"})
        assert request.transport is not None
        if how == "middle":
            asyncio.get_running_loop().call_soon(request.transport.abort)
        answer = await handler(request) if how != "before" else web.Response()
        if how in {"before", "after"}:
            request.transport.abort()
        return answer


@pytest.mark.parametrize(
    "plan",
    [
        [("POST", "before")],
        [("POST", "after")],
        [("POST", "503"), ("POST", "429")],
        [("POST", ""), ("PATCH", "before"), ("HEAD", "503")],
        [("POST", ""), ("PATCH", "middle")],
        [("POST", ""), ("PATCH", "after"), ("HEAD", ""), ("PATCH", "middle"), ("HEAD", "before")],
        [("POST", ""), ("PATCH", ""), ("PATCH", ""), ("PATCH", ""), ("PATCH", "after")],
        [("POST", ""), *[("PATCH", "502"), ("HEAD", "")] * 3],
    ],
)
async def test_an_upload_goes_on_whatever_breaks(storage: Storage, data: bytes, plan: list[tuple[str, str]]) -> None:
    breaking = Breaking()
    breaking.plan = plan
    told: list[int] = []
    async with serving(breaking.app(storage)) as url, AsyncClient(url, patience=20) as client:
        file = await client.upload(data, "x.tif", progress=lambda sent, _: told.append(sent))
    assert await read_all(storage.get(file.key)) == data
    assert not breaking.plan, breaking.seen
    assert told[-1] == len(data)


async def test_a_small_file_takes_one_request(storage: Storage, data: bytes) -> None:
    breaking = Breaking()
    async with serving(breaking.app(storage)) as url, AsyncClient(url) as client:
        file = await client.upload(data[:299_999], "x.tif")
    assert breaking.seen == ["POST"]
    assert (await storage.stat(file.key)).size == file.size == 299_999


async def test_patience_ends(storage: Storage, data: bytes) -> None:
    breaking = Breaking()
    breaking.plan = [("POST", "503")] * 10_000
    async with serving(breaking.app(storage)) as url, AsyncClient(url, patience=0.1) as client:
        with pytest.raises(Refused) as caught:
            await client.upload(data, "x.tif")
        assert caught.value.status == 503


async def test_a_later_run_of_the_program_goes_on(storage: Storage, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    path.write_bytes(data)
    breaking = Breaking()
    async with serving(breaking.app(storage)) as url:
        breaking.plan = [("POST", ""), ("PATCH", ""), ("PATCH", "500")]
        async with AsyncClient(url) as client:
            with pytest.raises(Refused):  # as good as killed: nothing is tidied up
                await client.upload(path)
        mark = mark_of(url, path)
        assert mark is not None
        assert mark.exists()
        breaking.seen.clear()
        async with AsyncClient(url) as client:
            file = await client.upload(path)
        assert breaking.seen[:2] == ["HEAD", "PATCH"], "no new beginning"
        assert breaking.seen.count("PATCH") == 3, "300,000 of 900,004 bytes were there already"
        assert await read_all(storage.get(file.key)) == data
        assert not mark.exists()
        path.write_bytes(data[:-1])
        breaking.seen.clear()
        async with AsyncClient(url) as client:
            await client.upload(path)
        assert breaking.seen[0] == "POST", "another file"


async def test_an_upload_that_the_server_forgot_begins_anew(storage: Storage, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    path.write_bytes(data)
    async with serving(make_app(storage)) as url, AsyncClient(url) as client:
        mark = mark_of(url, path)
        assert mark is not None
        mark.parent.mkdir(parents=True)
        for text in ('{"location": "/api/v1/uploads/' + "0" * 32 + '"}', "not JSON", "[]"):
            mark.write_text(text)
            file = await client.upload(path)
            assert await read_all(storage.get(file.key)) == data


class Relay:
    """Passes bytes between a client and a frontend; ``cut`` breaks all its connections."""

    def __init__(self, target: str) -> None:
        self.host, _, self.port = target.removeprefix("http://").partition(":")
        self.writers: set[asyncio.StreamWriter] = set()
        self.opened = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        there, back = await asyncio.open_connection(self.host, int(self.port))
        self.writers |= {writer, back}
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        self.writers -= {writer, back}

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
async def relay(served: Served) -> AsyncIterator[tuple[Relay, str]]:
    made = Relay(served.url)
    server = await asyncio.start_server(made.handle, "127.0.0.1", 0)
    yield made, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    made.cut()


async def test_a_stream_that_breaks_is_opened_again_and_tells_nothing_twice(
    served: Served, relay: tuple[Relay, str], image: Path
) -> None:
    async with AsyncClient(relay[1], patience=20) as client:
        job = await client.submit(image)
        seen: list[tuple[str, int]] = []
        async for event in job.watch():
            if event.status == "new" and not seen:
                (claimed,) = await served.worker.claim()
            elif event.status == "started":
                await served.store.advance("stand-in", (claimed.held, "predicting", 40))
            elif event.status == "predicting":
                relay[0].cut()
                await served.worker.complete(claimed)
            seen.append((event.status, event.progress))
    assert seen[-1] == ("done", 100)
    assert len(seen) == len(set(seen))
    assert relay[0].opened >= 2


async def test_a_server_that_stays_away_ends_the_stream(served: Served, image: Path) -> None:
    relay = Relay(served.url)
    server = await asyncio.start_server(relay.handle, "127.0.0.1", 0)
    async with AsyncClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", patience=0.3) as client:
        job = await client.submit(image)

        async def watch() -> None:
            async for _ in job.watch():
                server.close()
                relay.cut()

        with pytest.raises(Unreachable):
            await watch()


async def test_a_download_that_breaks_goes_on(tmp_path: Path, data: bytes) -> None:
    ranges: list[str] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        ranges.append(request.headers.get("Range", ""))
        start = int(ranges[-1].removeprefix("bytes=").removesuffix("-") or 0)
        headers = {"ETag": '"1"', "Content-Length": str(len(data) - start)}
        answer = web.StreamResponse(status=206 if start else 200, headers=headers)
        await answer.prepare(request)
        await answer.write(data[start : start + 400_000])
        if start + 400_000 < len(data):
            assert request.transport is not None
            request.transport.close()
        return answer

    app = web.Application()
    app.router.add_get("/{rest:.*}", handle)
    async with serving(app) as url, AsyncClient(url) as client:
        path = await download(client.transport, "/result", tmp_path / "r.zip")
    assert path.read_bytes() == data
    assert ranges[0] == ""
    assert len(ranges) >= 3


class Versions:
    """Serves one file in two versions, with ranges or without; each answer breaks off after some bytes."""

    def __init__(self, data: bytes, *, ranges: bool, breaks: int) -> None:
        self.data, self.ranges, self.breaks = data, ranges, breaks
        self.etag = "1"
        self.asked: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        self.asked.append(request.headers.get("Range", ""))
        if not self.ranges or request.headers.get("If-Range", self.etag) != self.etag:
            start = 0
        headers = {"ETag": self.etag, "Content-Length": str(len(self.data) - start)}
        answer = web.StreamResponse(status=206 if start else 200, headers=headers)
        await answer.prepare(request)
        end = start + self.breaks if self.breaks else len(self.data)
        await answer.write(self.data[start:end])
        if end < len(self.data):
            self.breaks = 0
            assert request.transport is not None
            request.transport.close()
        return answer


@pytest.mark.parametrize(
    ("ranges", "changed", "asked"),
    [(True, False, ["", "", "bytes="]), (True, True, ["", ""]), (False, False, ["", "", "bytes="])],
)
async def test_a_later_run_goes_on_with_a_download(
    tmp_path: Path, data: bytes, ranges: bool, changed: bool, asked: list[str]
) -> None:
    versions = Versions(data, ranges=ranges, breaks=400_000)
    app = web.Application()
    app.router.add_get("/{rest:.*}", versions.handle)
    target = tmp_path / "r.zip"
    async with serving(app) as url:
        async with AsyncClient(url, patience=0) as client:
            with pytest.raises(Unreachable):
                await download(client.transport, "/result", target)
        if changed:
            versions.etag, versions.data = "2", data[::-1]
        async with AsyncClient(url, patience=0) as client:
            await download(client.transport, "/result", target)
    assert target.read_bytes() == versions.data
    assert [each[:6] for each in versions.asked] == asked, "what arrived in the first run is not sent again"


async def test_a_key_goes_to_its_server_only(served: Served) -> None:
    given: list[str | None] = []

    async def handle(request: web.Request) -> web.Response:
        given.append(request.headers.get("Authorization"))
        return web.json_response({})

    app = web.Application()
    app.router.add_get("/{rest:.*}", handle)
    async with serving(app) as url, AsyncClient(served.url, "secret") as client:
        async with client.transport.request("GET", f"{url}/x"):
            pass
        async with AsyncClient(url, "secret") as other, other.transport.request("GET", "/x"):
            pass
    assert given == [None, "Bearer secret"]
