"""Files that go straight to a bucket, over the real emulator, and what a client may do wrong on the way."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock

import pytest

from shared.auth import KeyStore
from shared.errors import Retry
from shared.storage import Storage, open_storage, read_all
from shared.storage.unfinished import sweep_unfinished
from tests.fixtures.frontend import TIFF, Serve, Served
from tests.fixtures.gcs import GcsServer
from tests.fixtures.held import Held


@pytest.fixture
async def bucket(gcs_server: GcsServer, gcs_bucket: str, credentials: Callable[[str], None]) -> AsyncIterator[Storage]:
    credentials("http://127.0.0.1:1/")
    opened = open_storage(f"gs://{gcs_bucket}/p", gcs_api_root=gcs_server.url)
    yield opened
    await opened.aclose()


@pytest.fixture
async def direct(serve: Serve, bucket: Storage) -> Served:
    """A frontend over a bucket, with a low limit."""
    return await serve(storage=bucket, uploads={"max_bytes": 10_000})


@pytest.fixture
async def blind(serve: Serve, bucket: Storage) -> Served:
    """One that works out no checksum."""
    return await serve(storage=bucket, uploads={"max_bytes": 10_000, "direct_digest_bytes": len(TIFF) - 1})


async def _begin(served: Served, name: str = "C:\\images\\cells.tif", size: int = len(TIFF), **headers: str) -> Any:
    status, begun = await served.post("/api/v1/files/direct", {"name": name, "size": size}, **headers)
    assert status == 201, begun
    return begun


async def _put(served: Served, begun: Any, data: bytes) -> None:
    async with served.http.request(
        begun["method"], begun["url"], data=io.BytesIO(data), headers=begun["headers"]
    ) as answer:
        assert answer.status == 200, await answer.text()


async def _left(bucket: Storage) -> list[str]:
    """Return everything in the bucket, also what is no object of anybody."""
    client = bucket.to.client  # type: ignore[attr-defined]
    page = await client.list_objects(bucket.to.bucket)  # type: ignore[attr-defined]
    return [item["name"] for item in page.get("items", [])]


async def test_a_file_goes_straight_to_the_bucket_and_becomes_a_job(direct: Served, bucket: Storage) -> None:
    begun = await _begin(direct)
    assert begun["headers"]["x-goog-content-length-range"] == f"{len(TIFF)},{len(TIFF)}", "the bucket holds the limit"
    await _put(direct, begun, TIFF)
    status, file = await direct.post(begun["confirm"], {})
    assert status == 201
    assert file == {
        "file": f"uploads/{begun['id']}.tif",
        "name": "cells.tif",
        "size": len(TIFF),
        "sha256": hashlib.sha256(TIFF).hexdigest(),
        "media_type": "image/tiff",
    }
    found = await bucket.stat(file["file"])
    assert (found.deployment, found.content_type) == (bucket.deployment, "image/tiff")
    assert found.sha256 == file["sha256"]
    assert found.metadata == {"owner": "anonymous", "name": "cells.tif"}
    assert await read_all(bucket.get(file["file"])) == TIFF
    status, job = await direct.post("/api/v1/jobs", {"type": "segmentation", "file": file["file"]})
    assert (status, job["name"]) == (201, "cells.tif")
    assert await direct.post(begun["confirm"], {}) == (201, file), "confirmed twice is confirmed"


async def test_of_equal_files_one_is_stored_however_they_came(direct: Served, bucket: Storage) -> None:
    _, first = await direct.upload("cells.tif", TIFF)
    begun = await _begin(direct, "twin.tif")
    await _put(direct, begun, TIFF)
    status, file = await direct.post(begun["confirm"], {})
    assert (status, file["file"]) == (201, f"uploads/{begun['id']}.tif")
    assert await _left(bucket) == [
        f"p/.kiosk/direct/{begun['id']}/about",
        f"p/{first['uploadedName']}",
    ]
    assert await direct.post(begun["confirm"], {}) == (201, file), "also where the bytes are another's"
    status, job = await direct.post("/api/v1/jobs", {"type": "segmentation", "file": file["file"]})
    assert (status, job["name"]) == (201, "twin.tif")
    read = await direct.store.get(job["id"])
    assert read is not None
    assert read.input_object == first["uploadedName"]
    async with direct.http.get(f"{direct.url}/{file['file']}") as answer:
        assert await answer.read() == TIFF


async def test_a_confirmation_that_was_cut_short_is_made_up_for(
    direct: Served, bucket: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await direct.upload("cells.tif", TIFF)
    begun = await _begin(direct)
    await _put(direct, begun, TIFF)
    directs: Any = direct.front.direct._directs
    for step in ("take", "finish"):
        with monkeypatch.context() as patched:
            patched.setattr(directs, step, AsyncMock(side_effect=Retry("The bucket is away.")))
            assert (await direct.post(begun["confirm"], {}))[0] == 503
    status, file = await direct.post(begun["confirm"], {})
    assert status == 201
    assert await direct.front.uploads.find(file["file"], "anonymous")
    assert len([found.key async for found in bucket.list("uploads/")]) == 1


async def test_a_file_too_large_to_be_read_again_stands_for_itself(blind: Served, bucket: Storage) -> None:
    files = []
    for _ in range(2):
        begun = await _begin(blind)
        await _put(blind, begun, TIFF)
        files.append((await blind.post(begun["confirm"], {}))[1])
    assert [file["sha256"] for file in files] == [None, None]
    assert len([found.key async for found in bucket.list("uploads/")]) == 2


async def test_a_file_goes_to_the_bucket_in_pieces(direct: Served, bucket: Storage) -> None:
    data = TIFF + bytes(3000)
    status, begun = await direct.post(
        "/api/v1/files/direct", {"name": "cells.tif", "size": len(data), "resumable": True}
    )
    assert status == 201
    assert datetime.fromisoformat(begun["expires_at"]) > datetime.now(UTC) + timedelta(hours=23)
    headers = {**begun["headers"], "Content-Range": f"bytes 0-{len(data) - 1}/{len(data)}"}
    async with direct.http.put(begun["url"], data=io.BytesIO(data), headers=headers) as answer:
        assert answer.status == 200, await answer.text()
    status, file = await direct.post(begun["confirm"], {})
    assert (status, file["sha256"]) == (201, hashlib.sha256(data).hexdigest())
    assert await read_all(bucket.get(file["file"])) == data


async def test_a_session_needs_nobody_who_signs(
    serve: Serve, gcs_server: GcsServer, gcs_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    opened = open_storage(f"gs://{gcs_bucket}/p", gcs_api_root=gcs_server.url)
    served = await serve(storage=opened)
    wish = {"name": "cells.tif", "size": len(TIFF)}
    status, problem = await served.post("/api/v1/files/direct", wish)
    assert (status, problem["code"]) == (404, "no-direct-uploads")
    assert (await served.post("/api/v1/files/direct", {**wish, "resumable": True}))[0] == 201
    await opened.aclose()


@pytest.mark.parametrize("step", ["arrived", "head", "sha256", "take"])
async def test_a_confirmation_that_another_overtakes_is_told_the_same_file(
    direct: Served, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    begun = await _begin(direct)
    await _put(direct, begun, TIFF)
    held = Held(monkeypatch, direct.front.direct._directs, step)
    slow = asyncio.create_task(direct.post(begun["confirm"], {}))
    await held.there.wait()
    status, file = await direct.post(begun["confirm"], {})
    held.let_go()
    assert status == 201
    assert await slow == (201, file)
    assert await direct.post(begun["confirm"], {}) == (201, file), "what it became is still known"


async def test_bytes_that_go_while_they_are_looked_at_are_no_reason_to_forget_the_upload(
    direct: Served, bucket: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = await _begin(direct)
    await _put(direct, begun, TIFF)
    held = Held(monkeypatch, direct.front.direct._directs, "head")
    slow = asyncio.create_task(direct.post(begun["confirm"], {}))
    await held.there.wait()
    (data,) = [name.removeprefix("p/") for name in await _left(bucket) if name.endswith("/data")]
    client = bucket.to.client  # type: ignore[attr-defined]
    await client.delete(bucket.to.bucket, f"p/{data}")  # type: ignore[attr-defined]
    held.let_go()
    assert (await slow)[0] == 404
    await _put(direct, begun, TIFF)
    assert (await direct.post(begun["confirm"], {}))[0] == 201


async def test_bytes_that_are_put_after_the_confirmation_change_nothing(direct: Served, bucket: Storage) -> None:
    begun = await _begin(direct)
    await _put(direct, begun, TIFF)
    _, file = await direct.post(begun["confirm"], {})
    await _put(direct, begun, b"II*\0" + b"!" * (len(TIFF) - 4))
    assert await direct.post(begun["confirm"], {}) == (201, file)
    assert await read_all(bucket.get(file["file"])) == TIFF


async def test_nothing_is_a_file_before_it_is_confirmed(direct: Served, bucket: Storage) -> None:
    begun = await _begin(direct)
    status, problem = await direct.post(begun["confirm"], {})
    assert (status, problem["code"]) == (409, "conflict")
    await _put(direct, begun, TIFF)
    status, _ = await direct.post("/api/v1/jobs", {"type": "segmentation", "file": f"uploads/{begun['id']}.tif"})
    assert status == 404
    assert [found.key async for found in bucket.list()] == []


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"only text, not an image", 415, "not-an-image"),
        (b"PK\x03\x04" + bytes(40), 415, "archive-as-image"),
        (TIFF + b"more", 400, "wrong-size"),
        (TIFF[:-1], 400, "wrong-size"),
    ],
)
async def test_what_is_not_as_announced_is_refused_and_removed(
    direct: Served, bucket: Storage, data: bytes, status: int, code: str
) -> None:
    size = len(TIFF) if code == "wrong-size" else len(data)
    begun = await _begin(direct, size=size)
    await _put(direct, begun, data)
    answered, problem = await direct.post(begun["confirm"], {})
    assert (answered, problem["code"]) == (status, code)
    assert await _left(bucket) == []
    answered, problem = await direct.post(begun["confirm"], {})
    assert (answered, problem["code"]) == (404, "no-such-upload")


@pytest.mark.parametrize(
    ("wish", "status", "code"),
    [
        ({"name": "a.tif", "size": 10_001}, 413, "too-large"),
        ({"name": "a.tif", "size": 0}, 400, "invalid-field"),
        ({"name": "", "size": 5}, 400, "invalid-field"),
        ({"name": "a.tif"}, 400, "missing-field"),
        ({"name": "a.tif", "size": 5, "key": "uploads/x"}, 400, "invalid-field"),
    ],
)
async def test_a_wrong_wish_is_refused_at_once(
    direct: Served, bucket: Storage, wish: dict[str, Any], status: int, code: str
) -> None:
    answered, problem = await direct.post("/api/v1/files/direct", wish)
    assert (answered, problem["code"]) == (status, code)
    assert await _left(bucket) == []


@pytest.mark.parametrize("upload", ["x", "0" * 32, "..", "%2e%2e%2fuploads"])
async def test_an_upload_that_nobody_began_cannot_be_confirmed(direct: Served, upload: str) -> None:
    status, problem = await direct.post(f"/api/v1/files/direct/{upload}/confirm", {})
    assert (status, problem["status"]) == (404, 404)


async def test_nobody_confirms_the_upload_of_another(serve: Serve, bucket: Storage) -> None:
    served = await serve(storage=bucket, auth={"anonymous": "off"}, quotas={"upload_bytes": 2_000})
    store = KeyStore(served.store.redis, served.store.prefix)
    ann, bob = [{"Authorization": f"Bearer {(await store.create('x', owner=owner))[1]}"} for owner in ("ann", "bob")]
    begun = await _begin(served, **ann)
    await _put(served, begun, TIFF)
    status, problem = await served.post(begun["confirm"], {}, **bob)
    assert (status, problem["code"]) == (404, "no-such-upload")
    assert (await served.post(begun["confirm"], {}, **ann))[0] == 201
    status, problem = await served.post("/api/v1/files/direct", {"name": "a.tif", "size": 1_500}, **ann)
    assert (status, problem["code"]) == (429, "too-many-bytes")
    assert (await served.post("/api/v1/files/direct", {"name": "a.tif", "size": 1_500}))[0] == 401


async def test_an_upload_beyond_the_quota_leaves_nothing_behind(serve: Serve, bucket: Storage) -> None:
    served = await serve(storage=bucket, quotas={"upload_bytes": 2_000})
    status, problem = await served.post("/api/v1/files/direct", {"name": "a.tif", "size": 2_001})
    assert (status, problem["code"]) == (429, "too-many-bytes")
    assert await _left(bucket) == []


async def test_what_is_refused_for_its_size_is_not_counted(serve: Serve, bucket: Storage) -> None:
    served = await serve(storage=bucket, uploads={"max_bytes": 1_000}, quotas={"upload_bytes": 2_000})
    assert (await served.post("/api/v1/files/direct", {"name": "a.tif", "size": 1_500}))[0] == 413
    for _ in range(2):
        await _begin(served, size=1_000)


async def test_the_janitor_sweeps_what_was_never_confirmed(direct: Served, bucket: Storage) -> None:
    confirmed, waiting = await _begin(direct), await _begin(direct)
    for begun in (confirmed, waiting):
        await _put(direct, begun, TIFF)
    _, file = await direct.post(confirmed["confirm"], {})
    assert await sweep_unfinished(bucket, timedelta(hours=1)) == 0
    assert await sweep_unfinished(bucket, timedelta(0)) == 2
    assert await _left(bucket) == [f"p/{file['file']}"]
    assert (await direct.post(waiting["confirm"], {}))[0] == 404


async def test_a_folder_has_no_addresses_and_says_so(served: Served) -> None:
    for path in ("/api/v1/files/direct", f"/api/v1/files/direct/{'0' * 32}/confirm"):
        status, problem = await served.post(path, {"name": "a.tif", "size": 5})
        assert (status, problem["code"]) == (404, "no-direct-uploads")
        assert "/api/v1/uploads" in problem["detail"]


async def test_results_by_redirect_come_from_the_bucket(serve: Serve, bucket: Storage) -> None:
    served = await serve(storage=bucket, results="redirect")
    begun = await _begin(served)
    await _put(served, begun, TIFF)
    _, file = await served.post(begun["confirm"], {})
    async with served.http.get(f"{served.url}/{file['file']}", allow_redirects=False) as answer:
        assert answer.status == 302
        assert "X-Goog-Signature" in answer.headers["Location"]
    async with served.http.get(f"{served.url}/{file['file']}") as answer:
        assert await answer.read() == TIFF
