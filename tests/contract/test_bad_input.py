"""Every bad input has its status and its sentence."""

from __future__ import annotations

import json

import pytest

from tests.fixtures.frontend import TIFF, Served, multipart

ORDER = {"jobType": "segmentation", "imageName": "cells.tif"}


@pytest.mark.parametrize(
    ("name", "data", "status", "sentence"),
    [
        ("cells.tif", b"", 400, "The file 'cells.tif' is empty (0 bytes)."),
        ("cells.png", b"Dear Sir or Madam,\n" * 99, 415, "The file 'cells.png' is text."),
        ("cells.png", b"\x00\x01\x02" * 500, 415, "The file 'cells.png' is of no known image format."),
        ("cells.png", b"PK\x03\x04" + bytes(500), 415, "The file 'cells.png' is a zip archive, not an image."),
        ("cells.tif", b"\x1f\x8b" + bytes(500), 415, "The file 'cells.tif' is a gzip archive, not an image."),
        ("cells.zip", TIFF, 415, "The file 'cells.zip' is named as an archive but is a TIFF image."),
    ],
)
async def test_bad_files(served: Served, name: str, data: bytes, status: int, sentence: str) -> None:
    found, answer = await served.upload(name, data)
    assert (found, answer["message"].startswith(sentence)) == (status, True), answer
    assert [stat.key async for stat in served.front.storage.list()] == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"dataRescale": "1000"}, "The option scale is wrong: 1000"),
        ({"jobForm": {"scale": 0.01}}, "The option scale is wrong: 0.01"),
        ({"jobForm": {"scale": "big"}}, "The option scale is wrong: 'big'"),
        ({"jobForm": {"selectedChannels": [-1]}}, "The option channels.0 is wrong: -1"),
        ({"jobForm": {"selectedChannels": "red"}}, "The option channels.0 is wrong: 'red'"),
        ({"jobForm": {"dimensionOrder": "QQ"}}, "The option dimension_order is wrong: 'QQ'"),
        ({"modelName": "Oracle"}, "There is no model 'Oracle'; the models are: MultiplexSegmentation, NuclearSegm"),
        (
            {"modelName": "NuclearSegmentation", "modelVersion": 7},
            "The model NuclearSegmentation has no version '7', but 1, 2.",
        ),
        ({"imageName": "../../etc/passwd"}, "'../../etc/passwd' is not the name of an uploaded file."),
        ({"imageName": ["a"]}, "The field 'imageName' is wrong: Input should be a valid string."),
        ({"imageName": ""}, "The field 'imageName' is wrong: "),
        ({"jobForm": 7}, "The field 'jobForm' is wrong: "),
    ],
)
async def test_bad_orders(served: Served, change: dict[str, object], sentence: str) -> None:
    status, answer = await served.post("/api/predict", ORDER | change)
    assert status == 400
    assert answer["message"].startswith(sentence), answer


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"[1, 2]", 400, "The body is a list; it must be a JSON object."),
        (b'"text"', 400, "The body is a text; it must be a JSON object."),
        (b"null", 400, "The body is null; it must be a JSON object."),
        (b"7", 400, "The body is a number; it must be a JSON object."),
        (b"", 400, "The body is empty. Send a JSON object."),
        (b"{,}", 400, "The body is not JSON: "),
        (b'{"a": NaN}', 400, "The body is not JSON: NaN is not a JSON number"),
        (b"\xff\xfe\xff", 400, "The body is not JSON: "),
        (b'{"a":' * 100_000, 400, "The body is "),
        (json.dumps({"a": "x" * 10_000_000}).encode(), 413, "The body is longer than the 1,000,000 bytes allowed"),
    ],
)
@pytest.mark.parametrize("path", ["/api/predict", "/api/redis"])
async def test_bad_json(served: Served, path: str, body: bytes, status: int, sentence: str) -> None:
    found, answer = await served.post(path, body)
    assert (found, answer["message"].startswith(sentence)) == (status, True), answer


async def test_ten_megabytes_of_json_without_a_length(served: Served) -> None:
    async def chunks():  # type: ignore[no-untyped-def]
        for _ in range(100):
            yield b" " * 100_000

    async with served.http.post(served.url + "/api/predict", data=chunks()) as answer:
        assert answer.status == 413


@pytest.mark.parametrize("seconds", [-1, "soon", [1], 1e300, True and "nan"])
async def test_bad_expiry(served: Served, seconds: object) -> None:
    status, answer = await served.post("/api/redis/expire", {"hash": await served.submit(), "expireIn": seconds})
    assert status == 400
    assert answer["message"].startswith("The field 'expireIn' is wrong: ")


@pytest.mark.parametrize(
    ("body", "kind", "sentence"),
    [
        (b"{}", "application/json", "The body is of type 'application/json'; send the file as multipart/form-data"),
        (b"x", "multipart/form-data", "The Content-Type names no boundary between the parts."),
        (multipart("a.tif", TIFF)[0][:300], "multipart/form-data; boundary=edge", "The body ends in the middle"),
        (b"", "multipart/form-data; boundary=edge", "The body ends in the middle"),
        (b"--edge--\r\n", "multipart/form-data; boundary=edge", "The body has no file in the field 'file'."),
        (b"--edge\r\n\r\n\r\n" * 99, "multipart/form-data; boundary=edge", "The body has more than 64 parts."),
        (
            b"--edge\r\nX: " + b"y" * 20_000,
            "multipart/form-data; boundary=edge",
            "The headers of a part are longer than 8,192 bytes.",
        ),
    ],
)
async def test_bad_multipart(served: Served, body: bytes, kind: str, sentence: str) -> None:
    status, answer = await served.post("/api/upload", body, **{"Content-Type": kind})
    assert (status, answer["message"].startswith(sentence)) == (400, True), answer
    assert [stat.key async for stat in served.front.storage.list()] == []
