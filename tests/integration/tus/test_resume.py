"""Uploads that are cut: at any byte, by the death of a frontend, by a change of frontend; public clients of tus."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import os
import random
import shutil
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.storage import Storage, Stored, open_storage, read_all
from shared.storage.partial_file import FilePartials
from shared.storage.unfinished import open_partials
from tests.fixtures.gcs import GcsServer
from tests.fixtures.held import Held
from tests.integration.tus import serve
from tests.integration.tus.serve import make_app, serving
from tests.integration.tus.test_protocol import BYTES, begin, patch


async def cut(upload: str, offset: int, data: bytes, after: int) -> None:
    """Send a PATCH of ``data`` and close the connection after so many bytes of all that goes over it."""
    parts = urlsplit(upload)
    assert parts.port
    head = (
        f"PATCH {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\n"
        f"Content-Type: {BYTES['Content-Type']}\r\nContent-Length: {len(data)}\r\n\r\n"
    ).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", parts.port)
    writer.write((head + data)[:after])
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def resume(http: aiohttp.ClientSession, upload: str, data: bytes) -> str:
    """Do as clients do: ask how far it came and send the rest, again while another request still writes."""
    while True:
        async with http.head(upload) as head:
            offset = int(head.headers["Upload-Offset"])
            if offset == len(data):
                return head.headers["Upload-Key"]
        answer = await patch(http, upload, offset, data[offset:])
        assert answer.status in {204, 409}


async def stream(data: bytes) -> AsyncIterator[bytes]:
    yield data


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(5, 900_000),
    cuts=st.lists(st.one_of(st.integers(0, 1000), st.integers(0, 900_000)), max_size=4),
    seed=st.integers(0, 9),
)
async def test_cut_at_any_byte_and_resumed_it_is_the_same(
    storage: Storage, url: str, size: int, cuts: list[int], seed: int
) -> None:
    data = b"II*\0" + random.Random(seed).randbytes(size - 4)
    async with aiohttp.ClientSession(headers={"Tus-Resumable": "1.0.0"}) as http:
        upload = await begin(http, url, size)
        for after in cuts:
            async with http.head(upload) as head:
                offset = int(head.headers["Upload-Offset"])
            await cut(upload, offset, data[offset:], after)
        key = await resume(http, upload, data)
    assert await read_all(storage.get(key)) == data
    stat = await storage.stat(key)
    assert stat.size == size


async def test_what_arrived_before_the_cut_is_not_sent_again(
    http: aiohttp.ClientSession, url: str, image: bytes
) -> None:
    upload = await begin(http, url, len(image))
    await cut(upload, 0, image, 700_000)
    offset = 0
    async with asyncio.timeout(10):
        while not offset:  # the server may still be writing
            async with http.head(upload) as head:
                offset = int(head.headers["Upload-Offset"])
    assert 500_000 < offset < 700_000


async def test_two_frontends_take_turns_within_a_file(
    http: aiohttp.ClientSession, storage: Storage, image: bytes
) -> None:
    async with serving(make_app(storage)) as first, serving(make_app(storage)) as second:
        upload = await begin(http, first, len(image))
        paths = [upload, upload.replace(first, second)]
        step = 130_001
        for n, at in enumerate(range(0, len(image), step)):
            answer = await patch(http, paths[n % 2], at, image[at : at + step])
            assert answer.status == 204
        assert await read_all(storage.get(answer.headers["Upload-Key"])) == image


@pytest.mark.parametrize("kind", ["file", "gs"])
async def test_a_frontend_killed_within_a_file_is_followed_by_another(
    http: aiohttp.ClientSession, kind: str, tmp_path: Path, gcs_server: GcsServer, image: bytes
) -> None:
    where = f"file://{tmp_path}/root" if kind == "file" else f"gs://{gcs_server.make_bucket()}"
    data = image * 4
    with own_process(where, gcs_server.url) as (process, url):
        upload = await begin(http, url, len(data))
        assert (await patch(http, upload, 0, data[:600_000])).status == 204
        reader, writer = await half_sent(upload, 600_000, data)
        process.kill()
        process.wait(10)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
    with own_process(where, gcs_server.url) as (process, again):
        key = await resume(http, upload.replace(url, again), data)
    storage = open_storage(where, gcs_api_root=gcs_server.url)
    assert await read_all(storage.get(key)) == data
    await storage.aclose()


@pytest.mark.parametrize("step", ["progress", "head", "finish"])
async def test_who_asks_while_another_makes_it_a_file_is_told_which(
    http: aiohttp.ClientSession, storage: Storage, image: bytes, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Also where the bytes were removed at once, since their owner had them already."""

    async def duplicate(stored: Stored, _name: str, _owner: str) -> None:
        await storage.delete(stored.key)

    partials = open_partials(storage)
    async with serving(make_app(storage, partials=partials, settle=duplicate)) as url:
        upload = await begin(http, url, len(image))
        await partials.append(await partials.find(upload.rsplit("/", 1)[1]), 0, stream(image))
        held = Held(monkeypatch, partials, step)
        slow = asyncio.create_task(resume(http, upload, image))
        await held.there.wait()
        key = await resume(http, upload, image)
        held.let_go()
        assert await slow == key
        assert await resume(http, upload, image) == key


async def test_a_frontend_killed_before_it_wrote_down_the_key_is_followed_by_another(
    http: aiohttp.ClientSession, tmp_path: Path, image: bytes
) -> None:
    storage = open_storage(f"file://{tmp_path}/root")
    partials = FilePartials(storage)  # type: ignore[arg-type]
    settled = []

    async def settle(stored: Stored, _name: str, _owner: str) -> None:
        settled.append(stored.key)

    async with serving(make_app(storage, partials=partials, settle=settle)) as url:
        upload = await begin(http, url, len(image))
        before = await partials.find(upload.rsplit("/", 1)[1])
        key = (await patch(http, upload, 0, image)).headers["Upload-Key"]
        partials._write_about(before)
        assert await resume(http, upload, image) == key
    assert await read_all(storage.get(key)) == image
    assert settled == [key, key]
    await storage.aclose()


async def half_sent(upload: str, offset: int, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Begin a PATCH and leave it in the middle."""
    parts = urlsplit(upload)
    reader, writer = await asyncio.open_connection("127.0.0.1", parts.port)
    writer.write(
        f"PATCH {parts.path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\n"
        f"Content-Type: {BYTES['Content-Type']}\r\nContent-Length: {len(data) - offset}\r\n\r\n".encode()
    )
    writer.write(data[offset : offset + 1_300_000])
    await writer.drain()
    return reader, writer


class own_process:  # noqa: N801
    """A server in a process of its own; the context is the process and its address."""

    def __init__(self, storage: str, gcs_api_root: str) -> None:
        command = [sys.executable, serve.__file__, storage, gcs_api_root]
        environment = {**os.environ, "PYTHONPATH": str(Path(serve.__file__).parents[3])}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def __enter__(self) -> tuple[subprocess.Popen[str], str]:
        assert self.process.stdout is not None
        lines = iter(self.process.stdout.readline, "")
        return self.process, next(line.strip() for line in lines if line.startswith("http"))

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


async def test_tuspy_uploads_and_resumes(storage: Storage, url: str, image: bytes) -> None:
    client_module = pytest.importorskip("tusclient.client", reason="tuspy is not installed")

    def upload() -> str:
        client = client_module.TusClient(f"{url}/api/v1/uploads")
        options = {"chunk_size": 300_000, "metadata": {"filename": "x.tif"}, "upload_checksum": True}
        first = client.uploader(file_stream=io.BytesIO(image), **options)
        first.upload(stop_at=600_000)
        assert first.offset == 600_000
        client.uploader(file_stream=io.BytesIO(image), url=first.url, **options).upload()
        return str(first.url)

    key = f"uploads/{(await asyncio.to_thread(upload)).rsplit('/', 1)[1]}.tif"
    assert await read_all(storage.get(key)) == image


@pytest.fixture
def tus_js() -> Path:
    folder = Path(os.environ.get("KIOSK_TEST_NODE_MODULES", "node_modules"))
    if not shutil.which("node") or not (folder / "tus-js-client").is_dir():
        pytest.skip("tus-js-client is not installed: npm install tus-js-client, KIOSK_TEST_NODE_MODULES=…/node_modules")
    return folder


async def test_tus_js_client_uploads_resumes_and_joins(
    tus_js: Path, storage: Storage, url: str, image: bytes, tmp_path: Path
) -> None:
    """Once with a break after the first chunk and a second uploader that goes on, once in three parallel parts."""
    (tmp_path / "image").write_bytes(image)
    script = textwrap.dedent("""
        const tus = require(process.argv[2] + '/tus-js-client');
        const fs = require('fs');
        const [file, endpoint] = process.argv.slice(3);
        const data = fs.readFileSync(file);
        const run = (options) => new Promise((resolve, reject) => {
            const upload = new tus.Upload(data, {
                endpoint, metadata: {filename: 'x.tif'}, retryDelays: [0, 10, 10], chunkSize: 300000, ...options,
                onError: reject,
                onSuccess: (payload) => resolve(payload.lastResponse.getHeader('Upload-Key')),
                onChunkComplete: (size, done) => {
                    if (options.stop && done > 0) { upload.abort().then(() => resolve(upload.url)); }
                },
            });
            upload.start();
        });
        (async () => {
            const uploadUrl = await run({stop: true});
            console.log(await run({uploadUrl}));
            console.log(await run({parallelUploads: 3, chunkSize: Infinity}));
        })().catch((error) => { console.error(String(error)); process.exit(1); });
    """)
    (tmp_path / "run.cjs").write_text(script)
    process = await asyncio.create_subprocess_exec(
        "node", str(tmp_path / "run.cjs"), str(tus_js.resolve()), str(tmp_path / "image"), f"{url}/api/v1/uploads",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, wrong = await process.communicate()
    assert process.returncode == 0, wrong.decode()
    keys = out.decode().split()
    assert len(keys) == 2
    for key in keys:
        assert await read_all(storage.get(key)) == image


def test_metadata_of_any_letters() -> None:
    from services.frontend.tus.protocol import metadata

    value = base64.b64encode("ß☃.tif".encode()).decode()
    assert metadata(f"filename {value}, empty") == {"filename": "ß☃.tif", "empty": ""}
