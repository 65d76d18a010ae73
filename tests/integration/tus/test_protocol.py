"""tus 1.0 as https://tus.io/protocols/resumable-upload has it: core and every extension that is offered."""

from __future__ import annotations

import base64
import hashlib
import io
from typing import Any

import aiohttp
import pytest

from shared.storage import Storage, read_all
from tests.integration.tus.conftest import Clock

BYTES = {"Content-Type": "application/offset+octet-stream"}
PATH = "/api/v1/uploads"


def named(name: str) -> dict[str, str]:
    return {"Upload-Metadata": f"filename {base64.b64encode(name.encode()).decode()},filetype aW1hZ2UvdGlmZg=="}


async def begin(http: aiohttp.ClientSession, url: str, length: int, **headers: str) -> str:
    given = {"Upload-Length": str(length), **named("cells.TIF"), **headers}
    async with http.post(url + PATH, headers=given) as answer:
        assert answer.status == 201, await answer.text()
        return url + answer.headers["Location"]


async def patch(http: aiohttp.ClientSession, upload: str, offset: int, data: bytes, **headers: str) -> Any:
    given = {**BYTES, "Upload-Offset": str(offset), **headers}
    async with http.patch(upload, headers=given, data=io.BytesIO(data)) as answer:
        await answer.read()
        return answer


async def test_options_tells_what_there_is(http: aiohttp.ClientSession, url: str) -> None:
    async with http.options(url + PATH) as answer:
        assert answer.status == 204
        assert answer.headers["Tus-Version"] == "1.0.0"
        assert set(answer.headers["Tus-Extension"].split(",")) == {
            "creation", "creation-with-upload", "expiration", "checksum", "termination", "concatenation",
        }  # fmt: skip
        assert answer.headers["Tus-Max-Size"] == "5000000"
        assert "sha1" in answer.headers["Tus-Checksum-Algorithm"].split(",")


async def test_an_upload_in_three_goes_becomes_a_file(
    http: aiohttp.ClientSession, url: str, storage: Storage, image: bytes
) -> None:
    upload = await begin(http, url, len(image))
    third = len(image) // 3
    for start, end in [(0, third), (third, 2 * third)]:
        answer = await patch(http, upload, start, image[start:end])
        assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(end))
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert "GMT" in answer.headers["Upload-Expires"]
        async with http.head(upload) as head:
            assert (head.status, head.headers["Upload-Offset"], head.headers["Upload-Length"]) == (
                200,
                str(end),
                str(len(image)),
            )
            assert head.headers["Cache-Control"] == "no-store"
            assert head.headers["Upload-Metadata"] == named("cells.TIF")["Upload-Metadata"]
    last = await patch(http, upload, 2 * third, image[2 * third :])
    key = last.headers["Upload-Key"]
    assert key == f"uploads/{upload.rsplit('/', 1)[1]}.TIF"
    assert await read_all(storage.get(key)) == image
    stat = await storage.stat(key)
    assert (stat.content_type, stat.metadata) == ("image/tiff", {"owner": "anonymous", "name": "cells.TIF"})
    async with http.head(upload) as head:
        assert (head.headers["Upload-Offset"], head.headers["Upload-Key"]) == (str(len(image)), key)
        assert "Upload-Expires" not in head.headers
    async with http.get(upload) as told:
        found = await told.json()
        assert (found["complete"], found["uploadedName"], found["offset"]) == (True, key, len(image))
    assert (await patch(http, upload, len(image), b"")).status == 204, "sent again, since the answer was lost"


async def test_creation_with_upload(http: aiohttp.ClientSession, url: str, storage: Storage, image: bytes) -> None:
    headers = {"Upload-Length": str(len(image)), **named("a.tif"), **BYTES}
    async with http.post(url + PATH, headers=headers, data=image[:1000]) as answer:
        assert (answer.status, answer.headers["Upload-Offset"]) == (201, "1000")
        upload = url + answer.headers["Location"]
    assert (await patch(http, upload, 1000, image[1000:])).status == 204
    async with http.post(url + PATH + "/", headers=headers, data=image) as answer:
        assert answer.status == 201
        assert await read_all(storage.get(answer.headers["Upload-Key"])) == image


async def test_a_checksum_that_differs_is_460_and_stores_nothing(
    http: aiohttp.ClientSession, url: str, image: bytes
) -> None:
    upload = await begin(http, url, len(image))
    good = base64.b64encode(hashlib.sha1(image[:9000]).digest()).decode()
    answer = await patch(http, upload, 0, image[1:9001], **{"Upload-Checksum": f"sha1 {good}"})
    assert answer.status in {415, 460}, "a shifted image is no image, which may be noticed first"
    upload = await begin(http, url, len(image))
    answer = await patch(http, upload, 0, image[:8999] + b"!", **{"Upload-Checksum": f"sha1 {good}"})
    assert (answer.status, answer.reason) == (460, "Checksum Mismatch")
    async with http.head(upload) as head:
        assert head.headers["Upload-Offset"] == "0"
    answer = await patch(http, upload, 0, image[:9000], **{"Upload-Checksum": f"sha1 {good}"})
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, "9000")
    for wrong in ("crc99 AAAA", "sha1 AAAA", "sha1", "sha1 !!"):
        assert (await patch(http, upload, 9000, b"x", **{"Upload-Checksum": wrong})).status == 400


async def test_termination(http: aiohttp.ClientSession, url: str, storage: Storage, image: bytes) -> None:
    upload = await begin(http, url, len(image))
    await patch(http, upload, 0, image[:1000])
    async with http.delete(upload) as answer:
        assert answer.status == 204
    for method in ("HEAD", "DELETE", "GET"):
        async with http.request(method, upload) as answer:
            assert answer.status == 404
    done = await begin(http, url, len(image))
    key = (await patch(http, done, 0, image)).headers["Upload-Key"]
    async with http.delete(done) as answer:
        assert answer.status == 204
    assert (await storage.stat(key)).size == len(image), "the file belongs to its jobs"


async def test_an_upload_expires(http: aiohttp.ClientSession, url: str, clock: Clock, image: bytes) -> None:
    upload = await begin(http, url, len(image))
    await patch(http, upload, 0, image[:1000])
    clock.ahead = 86_000
    async with http.head(upload) as head:
        assert head.status == 200
    clock.ahead = 87_000
    async with http.head(upload) as head:
        assert head.status == 410
    assert (await patch(http, upload, 1000, image[1000:])).status == 404


async def test_concatenation(http: aiohttp.ClientSession, url: str, storage: Storage, image: bytes) -> None:
    half = len(image) // 2
    pieces = []
    for data in (image[:half], image[half:]):
        piece = await begin(http, url, len(data), **{"Upload-Concat": "partial"})
        assert (await patch(http, piece, 0, data)).status == 204
        async with http.head(piece) as head:
            assert head.headers["Upload-Concat"] == "partial"
            assert "Upload-Key" not in head.headers
        pieces.append(piece)
    first, second = pieces
    headers = {"Upload-Concat": f"final;{first} {second.removeprefix(url)}", **named("whole.tif")}
    async with http.post(url + PATH, headers=headers) as answer:
        assert answer.status == 201
        whole, key = url + answer.headers["Location"], answer.headers["Upload-Key"]
    assert await read_all(storage.get(key)) == image
    async with http.head(whole) as head:
        assert head.headers["Upload-Concat"] == f"final;{first.removeprefix(url)} {second.removeprefix(url)}"
        assert head.headers["Upload-Length"] == str(len(image))
    assert (await patch(http, whole, len(image), b"")).status == 403


async def test_what_cannot_be_joined(http: aiohttp.ClientSession, url: str, image: bytes) -> None:
    unfinished = await begin(http, url, 10, **{"Upload-Concat": "partial"})
    usual = await begin(http, url, 10)
    foreign = await begin(http, url, 3, **{"Upload-Concat": "partial", "X-Owner": "other"})
    await patch(http, foreign, 0, b"abc", **{"X-Owner": "other"})
    text = await begin(http, url, 3, **{"Upload-Concat": "partial"})
    await patch(http, text, 0, b"abc")
    for urls, status in [
        (unfinished, 400),
        (usual, 400),
        (foreign, 404),
        ("", 400),
        (f"{url}/nothing", 404),
        (text, 415),
    ]:
        async with http.post(url + PATH, headers={"Upload-Concat": f"final;{urls}"}) as answer:
            assert answer.status == status, urls
    async with http.post(url + PATH, headers={"Upload-Concat": "some", "Upload-Length": "1"}) as answer:
        assert answer.status == 400


async def test_another_owner_sees_nothing(http: aiohttp.ClientSession, url: str, image: bytes) -> None:
    upload = await begin(http, url, len(image), **{"X-Owner": "me"})
    other = {"X-Owner": "other"}
    async with http.head(upload, headers=other) as answer:
        assert answer.status == 404
    async with http.delete(upload, headers=other) as answer:
        assert answer.status == 404
    assert (await patch(http, upload, 0, image, **other)).status == 404
    assert (await patch(http, upload, 0, image, **{"X-Owner": "me"})).status == 204


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Tus-Resumable": "0.2.2"}, 412),
        ({"Upload-Length": "-1"}, 400),
        ({"Upload-Length": "many"}, 400),
        ({"Upload-Length": ""}, 400),
        ({"Upload-Length": "5000001"}, 413),
        ({"Upload-Length": "0"}, 400),
        ({"Upload-Metadata": "filename !!!"}, 400),
        ({"Upload-Metadata": "filename YQ==,filename YQ=="}, 400),
        ({"Upload-Metadata": ", ,"}, 400),
        ({"Upload-Metadata": "filename " + "YQ" * 2500}, 400),
    ],
)
async def test_a_bad_beginning(
    http: aiohttp.ClientSession, url: str, storage: Storage, headers: dict[str, str], status: int
) -> None:
    async with http.post(url + PATH, headers={"Upload-Length": "10", **headers}) as answer:
        assert answer.status == status
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert (await answer.json())["detail"].endswith((".", ")"))
        assert ("Tus-Version" in answer.headers) == (status == 412)


async def test_bad_continuations(http: aiohttp.ClientSession, url: str, image: bytes) -> None:
    upload = await begin(http, url, len(image))
    assert (await patch(http, upload, 5, image[5:])).status == 409
    assert (await patch(http, upload, 0, image, **{"Content-Type": "image/tiff"})).status == 415
    assert (await patch(http, upload, 0, image + b"x")).status == 413
    assert (await patch(http, upload, 0, image, **{"Upload-Offset": "-1"})).status == 400
    assert (await patch(http, url + PATH + "/unknown", 0, image)).status == 404
    async with http.head(upload) as head:
        assert head.headers["Upload-Offset"] == "0"

    async def endless() -> Any:
        for _ in range(30):
            yield image

    async with http.patch(upload, headers={**BYTES, "Upload-Offset": "0"}, data=endless()) as answer:
        assert answer.status == 413


async def test_a_file_of_a_wrong_kind_is_refused_with_its_first_bytes_and_forgotten(
    http: aiohttp.ClientSession, url: str
) -> None:
    upload = await begin(http, url, 4_000_000)
    answer = await patch(http, upload, 0, b"only text, of which there is plenty" * 100)
    assert answer.status == 415
    async with http.head(upload) as head:
        assert head.status == 404
    short = await begin(http, url, 4)
    assert (await patch(http, short, 0, b"tex")).status == 204, "too short to tell"
    assert (await patch(http, short, 3, b"t")).status == 415


async def test_a_method_in_a_header(http: aiohttp.ClientSession, url: str, image: bytes) -> None:
    upload = await begin(http, url, len(image))
    headers = {**BYTES, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    async with http.post(upload, headers=headers, data=image) as answer:
        assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(len(image)))
    async with http.post(upload) as answer:
        assert answer.status == 405
