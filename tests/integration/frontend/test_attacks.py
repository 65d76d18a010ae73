"""What hostile clients send that is well-formed enough to reach a handler."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib

import pytest
from yarl import URL

from tests.fixtures.frontend import TIFF, Serve, Served, multipart

_DIGITS = "9" * 5_000  # more than Python takes for a number


async def test_numbers_of_any_length_are_no_trouble(served: Served) -> None:
    _, stored = await served.upload()
    for wanted in (f"bytes=0-{_DIGITS}", f"bytes={_DIGITS}-", f"bytes=-{_DIGITS}"):
        path = f"{served.url}/{stored['uploadedName']}"
        async with served.http.get(path, headers={"Range": wanted}) as answer:
            assert answer.status == 200, "what is no range is left aside"
    for limit in (f"000000001{_DIGITS}", "٣" * 500, "٣"):
        status, problem = await served.get(f"/api/v1/jobs?limit={limit}")
        assert (status, problem["code"]) == (400, "invalid-field")
    events = f"{served.url}/api/v1/events?ids=segmentation:{'0' * 32}"
    for seen in (_DIGITS, "-1", "x"):
        async with served.http.get(events, headers={"Last-Event-ID": seen}) as answer:
            assert answer.status == 204


@pytest.mark.parametrize("depth", [150, 400, 5_000])
async def test_options_nested_deeply_are_refused_or_told_again(served: Served, depth: int) -> None:
    _, stored = await served.upload()
    nested = '{"a":' * depth + "1" + "}" * depth
    body = f'{{"type": "mesmer", "file": "{stored["uploadedName"]}", "options": {nested}}}'.encode()
    status, told = await served.post("/api/v1/jobs", body)
    assert status == 400, told
    form = f'--edge\r\nContent-Disposition: form-data; name="options"\r\n\r\n{nested}\r\n'.encode()
    more, kind = multipart("cells.tif", TIFF)
    typed = b'--edge\r\nContent-Disposition: form-data; name="type"\r\n\r\nmesmer\r\n'
    assert (await served.post("/api/v1/jobs", form + typed + more, **{"Content-Type": kind}))[0] == 400
    assert (await served.get("/api/v1/jobs"))[0] == 200


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_packed_bodies_are_refused_before_they_swell(serve: Serve, encoding: str, pack: object) -> None:
    served = await serve(quotas={"upload_bytes": 100_000})
    body, kind = multipart("cells.tif", TIFF + bytes(5_000_000))
    packed = pack(body)  # type: ignore[operator]
    for path in ("/api/upload", "/api/v1/files", "/api/v1/jobs"):
        status, told = await served.post(path, packed, **{"Content-Type": kind, "Content-Encoding": encoding})
        assert (status, told["code"]) == (415, "packed-body"), path
    packed = pack(json.dumps({"hash": "x"}).encode())  # type: ignore[operator]
    assert (await served.post("/api/status", packed, **{"Content-Encoding": encoding}))[0] == 415
    assert [one async for one in served.front.storage.list("uploads/")] == []


async def test_a_page_is_kept_once_by_whatever_path_it_is_asked_for(served: Served) -> None:
    for path in ("/static/app.js", "/static/./app.js", "/static/x/../app.js", "/static/view/../app.js"):
        _, status = await _status(served, path)
        assert status == (200 if path == "/static/app.js" else 404), path
    for path in ("/static/a%00b", "/static/" + "x" * 4_000, "/static/view", "/static/%80"):
        body, status = await _status(served, path)
        assert (status, json.loads(body)["code"]) == (404, "not-found"), path


async def _status(served: Served, path: str) -> tuple[bytes, int]:
    """Ask for a path just as it is written."""
    async with served.http.get(URL(served.url + path, encoded=True)) as answer:
        return await answer.read(), answer.status


async def test_options_too_long_to_be_meant_are_refused_before_they_are_looked_at(served: Served) -> None:
    _, stored = await served.upload()
    wish = {"type": "segmentation", "file": stored["uploadedName"]}
    status, problem = await served.post("/api/v1/jobs", {**wish, "options": {"channels": [0] * 100_000}})
    assert (status, problem["code"]) == (400, "invalid-option")
    assert "long" in problem["detail"]


async def test_a_batch_is_read_no_further_than_it_can_be_long(serve: Serve) -> None:
    served = await serve(jobs={"batch_files": 2})
    wish = {"type": "segmentation", "files": [{"file": "uploads/x", "name": "y" * 3_000_000}]}
    status, problem = await served.post("/api/v1/batches", wish)
    assert (status, problem["code"]) == (413, "too-large")


async def test_the_fields_of_a_form_are_limited_together(serve: Serve) -> None:
    served = await serve(json_bytes=10_000)
    field = b'--edge\r\nContent-Disposition: form-data; name="x%d"\r\n\r\n' + b"y" * 900 + b"\r\n"
    body, kind = multipart("cells.tif", TIFF)
    form = b"".join(field % number for number in range(15)) + body
    status, problem = await served.post("/api/v1/jobs", form, **{"Content-Type": kind})
    assert (status, problem["code"]) == (413, "too-large")


async def test_resumable_uploads_count_among_those_received_at_once(serve: Serve) -> None:
    served = await serve(uploads={"concurrent": 1})
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly():  # type: ignore[no-untyped-def]
        yield TIFF
        begun.set()
        await go_on.wait()
        yield b"!"

    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(TIFF) + 1)}
    headers["Content-Type"] = "application/offset+octet-stream"
    first = asyncio.create_task(served.http.post(f"{served.url}/api/v1/uploads", data=slowly(), headers=headers))
    await begun.wait()
    while not served.front.uploads.running:
        await asyncio.sleep(0)
    assert (await served.upload())[0] == 503
    async with served.http.post(f"{served.url}/api/v1/uploads", data=TIFF, headers=headers) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "2"
    go_on.set()
    assert (await first).status == 201
    assert (await served.upload())[0] == 200
