"""Large files straight to the bucket, past the server: through trouble, in a later run, and where that cannot be."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from cellkiosk import AsyncClient, Refused, direct, sending
from cellkiosk.sending import mark_of
from shared.storage import Storage, open_storage, read_all
from tests.fixtures.frontend import Serve, Served
from tests.fixtures.gcs import GcsServer
from tests.fixtures.gcs_relay import Relay
from tests.integration.client.test_cli import kiosk

PIECE = 512 * 1024  # of two of the slices that a bucket takes


@pytest.fixture
def data() -> bytes:
    return b"II*\0" + random.Random(5).randbytes(3 * PIECE)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "CHUNK", PIECE)


@pytest.fixture
async def bucket(relay: Relay, gcs_bucket: str) -> AsyncIterator[Storage]:
    opened = open_storage(f"gs://{gcs_bucket}/p", gcs_api_root=relay.url)
    yield opened
    await opened.aclose()


@pytest.fixture
async def straight(serve: Serve, bucket: Storage) -> Served:
    return await serve(storage=bucket, uploads={"max_bytes": 50_000_000})


def _pieces(relay: Relay) -> Callable[[web.Request], bool]:
    """Tell the requests that bring pieces of the file."""
    return lambda request: request.method == "PUT" and not request.headers["Content-Range"].startswith("bytes *")


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    "trouble",
    [[], ["503"], ["cut"], ["half"], ["lose"], ["pass", "503", "half"], ["pass", "pass", "pass", "lose"], ["lose"] * 4],
)
async def test_a_large_file_goes_past_the_server_whatever_breaks(
    straight: Served, relay: Relay, bucket: Storage, data: bytes, trouble: list[str]
) -> None:
    relay.plan += [(_pieces(relay), how) for how in trouble]
    told: list[int] = []
    async with AsyncClient(straight.url, patience=30) as client:
        file = await client.upload(data, "cells.tif", progress=lambda sent, _: told.append(sent))
    assert relay.plan == []
    assert (file.name, file.size, told[-1]) == ("cells.tif", len(data), len(data))
    assert await read_all(bucket.get(file.key)) == data
    assert (await bucket.stat(file.key)).sha256 == hashlib.sha256(data).hexdigest()
    assert [found.key async for found in bucket.list()] == [file.key]


@pytest.mark.usefixtures("small_chunks")
async def test_a_small_file_goes_through_the_server(straight: Served, relay: Relay, data: bytes) -> None:
    async with AsyncClient(straight.url) as client:
        await client.upload(data[:PIECE], "cells.tif")
    assert relay.seen["PUT"] == 0


def _large(folder: Path, data: bytes, url: str) -> tuple[Path, Path]:
    """Return a file, and where its session with a server is kept."""
    path = folder / "large.tif"
    path.write_bytes(data)
    mark = mark_of(url, path)
    assert mark is not None
    return path, mark


@pytest.mark.usefixtures("small_chunks")
async def test_a_later_run_goes_on_where_this_one_was_killed(
    straight: Served, relay: Relay, bucket: Storage, data: bytes, tmp_path: Path
) -> None:
    path, mark = _large(tmp_path, data, straight.url)
    killed: asyncio.Task[object]

    def told(sent: int, _: int) -> None:
        if sent > 2 * PIECE:
            killed.cancel()

    async with AsyncClient(straight.url) as client:
        killed = asyncio.create_task(client.upload(path, progress=told))
        await asyncio.gather(killed, return_exceptions=True)
    assert killed.cancelled()
    assert mark.stat().st_mode & 0o077 == 0, "the session's address is as good as a key"
    relay.seen.clear()
    async with AsyncClient(straight.url) as client:
        file = await client.upload(path)
    assert relay.seen["PUT"] == 3, "a question, and the two pieces that were missing"
    assert await read_all(bucket.get(file.key)) == data
    assert not mark.exists()


@pytest.mark.usefixtures("small_chunks")
async def test_a_session_that_the_bucket_forgot_is_begun_anew(
    straight: Served, relay: Relay, bucket: Storage, data: bytes, tmp_path: Path
) -> None:
    path, mark = _large(tmp_path, data, straight.url)
    mark.parent.mkdir(parents=True)
    mark.write_text(f'{{"session": "{relay.url}/none", "confirm": "/api/v1/files/direct/{"0" * 32}/confirm"}}')
    async with AsyncClient(straight.url) as client:
        file = await client.upload(path)
    assert await read_all(bucket.get(file.key)) == data


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("how", ["away", "403", "500"])
async def test_where_the_bucket_is_not_to_be_had_the_file_goes_through_the_server(
    straight: Served, relay: Relay, bucket: Storage, data: bytes, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(direct, "_FIRST", 0.2)
    begun: list[str] = []
    begin = straight.front.direct.begin

    async def elsewhere(*args: object, **more: object) -> object:
        made, address = await begin(*args, **more)  # type: ignore[arg-type]
        begun.append(made.id)
        where = "http://127.0.0.1:1/" if how == "away" else f"{straight.url}/api/v1/{how}"
        return made, type(address)(where, address.headers)

    monkeypatch.setattr(straight.front.direct, "begin", elsewhere)
    async with AsyncClient(straight.url, patience=30) as client:
        first, second = [await client.upload(data[: -1 - number], "cells.tif") for number in range(2)]
    assert await read_all(bucket.get(first.key)) == data[:-1]
    assert await read_all(bucket.get(second.key)) == data[:-2]
    assert len(begun) == 1, "the second file does not try"


@pytest.mark.usefixtures("small_chunks")
async def test_what_is_no_image_is_refused_and_not_sent_again(straight: Served, relay: Relay, data: bytes) -> None:
    async with AsyncClient(straight.url) as client:
        with pytest.raises(Refused) as caught:
            await client.upload(b"only text\n" * PIECE, "cells.tif")
    assert caught.value.code == "not-an-image"


async def test_the_command_sends_large_files_straight_to_the_bucket(
    serve: Serve, gcs_server: GcsServer, gcs_bucket: str, tmp_path: Path
) -> None:
    bucket = open_storage(f"gs://{gcs_bucket}", gcs_api_root=gcs_server.url)
    served = await serve(storage=bucket)
    path = tmp_path / "large.tif"
    with path.open("wb") as file:
        file.write(b"II*\0")
        file.truncate(sending.CHUNK + 5)
    ran = await kiosk("submit", str(path), "--type", "segmentation", url=served.url)
    assert ran.code == 0, ran
    job = await served.store.get(ran.out.strip())
    assert job is not None
    assert (await bucket.stat(job.input_object)).size == sending.CHUNK + 5
    about = [item["name"] for item in (await bucket.to.client.list_objects(gcs_bucket))["items"]]  # type: ignore[attr-defined]
    assert any(name.startswith(".kiosk/direct/") for name in about), about
    await bucket.aclose()
