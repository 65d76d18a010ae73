"""Equal files of one owner are stored once, and stay as long as any of their uploads is wanted."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.janitor.orphans import Orphans
from services.janitor.retention import Retention
from services.janitor.settings import OrphanSettings
from shared.auth import KeyStore
from shared.jobs import open_store
from shared.jobs.audit import audit
from shared.storage import Storage, open_storage, read_all
from tests.fixtures.frontend import TIFF, Serve, Served, multipart
from tests.fixtures.gcs import GcsServer

BIG = b"II*\0" + bytes(range(256)) * 20_000
"""More than one piece of an upload to a bucket."""


@pytest.fixture(params=["file", "gs"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    if request.param == "file":
        opened = open_storage((tmp_path / "storage").as_uri())
    else:
        server: GcsServer = request.getfixturevalue("gcs_server")
        opened = open_storage(f"gs://{server.make_bucket()}/p", gcs_api_root=server.url)
    yield opened
    await opened.aclose()


async def _compat(served: Served, name: str, data: bytes, **headers: str) -> str:
    status, stored = await served.upload(name, data, **headers)
    assert status == 200, stored
    return str(stored["uploadedName"])


async def _v1(served: Served, name: str, data: bytes, **headers: str) -> str:
    body, kind = multipart(name, data)
    status, stored = await served.post("/api/v1/files", body, **{"Content-Type": kind, **headers})
    assert status == 201, stored
    return str(stored["file"])


async def _tus(served: Served, name: str, data: bytes, **headers: str) -> str:
    """Upload in two goes."""
    resumable = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream", **headers}
    named = {"Upload-Length": str(len(data)), "Upload-Metadata": "filename " + base64.b64encode(name.encode()).decode()}
    half = len(data) // 2
    async with served.http.post(
        f"{served.url}/api/v1/uploads", data=io.BytesIO(data[:half]), headers=resumable | named
    ) as answer:
        assert answer.status == 201, await answer.text()
        where = answer.headers["Location"]
    async with served.http.patch(
        served.url + where, data=io.BytesIO(data[half:]), headers=resumable | {"Upload-Offset": str(half)}
    ) as answer:
        assert answer.status == 204, await answer.text()
        return answer.headers["Upload-Key"]


async def _joined(served: Served, name: str, data: bytes) -> str:
    """Upload as two partial uploads that are joined."""
    resumable = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
    half, parts = len(data) // 2, []
    for piece in (data[:half], data[half:]):
        about = resumable | {"Upload-Length": str(len(piece)), "Upload-Concat": "partial"}
        async with served.http.post(f"{served.url}/api/v1/uploads", data=io.BytesIO(piece), headers=about) as answer:
            assert answer.status == 201
            parts.append(answer.headers["Location"])
    about = {
        "Tus-Resumable": "1.0.0",
        "Upload-Concat": "final;" + " ".join(parts),
        "Upload-Metadata": "filename " + base64.b64encode(name.encode()).decode(),
    }
    async with served.http.post(f"{served.url}/api/v1/uploads", headers=about) as answer:
        assert answer.status == 201, await answer.text()
        return answer.headers["Upload-Key"]


async def _objects(storage: Storage) -> list[str]:
    return [found.key async for found in storage.list("uploads/")]


async def _job(served: Served, file: str, *, retention: float = 0) -> str:
    """Submit a job, have it done, and have it forgotten some time after."""
    status, job = await served.post("/api/v1/jobs", {"type": "segmentation", "file": file})
    assert status == 201, job
    (claimed,) = await served.worker.claim()
    await served.worker.complete(claimed)
    await served.store.expire(job["id"], retention)
    return str(job["id"])


async def _forget(served: Served, storage: Storage) -> None:
    await Retention(served.store, storage, "j1", 10).round()


async def _sweep(served: Served, storage: Storage, grace: float) -> None:
    orphans = Orphans(served.store, storage, "j1", OrphanSettings(grace=max(grace, 1e-9), period=1))
    async for batch in orphans.batches():
        for name in await orphans.doomed(batch):
            await storage.delete(name)
            await served.store.absolve(name)


async def _keys(served: Served) -> list[str]:
    words = ("upload:", "content:", "uses:", "doomed")
    start = len(served.store.prefix)
    found = [
        key[start:] async for key in served.store.redis.scan_iter(match="*") if key.startswith(served.store.prefix)
    ]
    return [key for key in found if key.startswith(words)]


async def test_a_file_is_stored_once_however_it_comes(serve: Serve, storage: Storage) -> None:
    served = await serve(storage=storage)
    ways = (_compat, _v1, _tus, _joined, _tus, _v1, _compat)
    names = [await way(served, "cells.tif", BIG) for way in ways]
    assert len(set(names)) == len(names), "each upload has a name of its own"
    assert await _objects(storage) == names[:1]
    assert (await storage.stat(names[0])).sha256
    for name in names:
        async with served.http.get(f"{served.url}/{name}") as answer:
            assert (answer.status, await answer.read()) == (200, BIG)
    assert await audit(served.store) == []


@pytest.mark.parametrize("first", [_tus, _joined])
async def test_the_checksum_of_a_resumed_upload_is_known(serve: Serve, storage: Storage, first: Any) -> None:
    served = await serve(storage=storage)
    name = await first(served, "cells.tif", BIG)
    assert (await storage.stat(name)).sha256, "worked out on the way, or by reading it once more"
    await _v1(served, "cells.tif", BIG)
    assert await _objects(storage) == [name]


async def test_a_job_reads_the_shared_object_under_its_own_name(serve: Serve, storage: Storage) -> None:
    served = await serve(storage=storage)
    first, second = await _v1(served, "a.tif", TIFF), await _v1(served, "b.tif", TIFF)
    served.front.uploads._known.clear()
    status, view = await served.post("/api/v1/jobs", {"type": "segmentation", "file": second})
    assert (status, view["file"], view["name"]) == (201, second, "b.tif")
    (job,) = await served.worker.claim()
    assert job.fields["input_file_name"] == second
    assert job.input_object == first
    assert await read_all(storage.get(job.input_object)) == TIFF
    await served.worker.complete(job)


async def test_an_object_goes_with_the_last_job_that_names_it(serve: Serve, storage: Storage) -> None:
    served = await serve(storage=storage)
    first, second = await _compat(served, "a.tif", TIFF), await _v1(served, "b.tif", TIFF)
    await _job(served, first)
    last = await _job(served, second, retention=1000)
    await _forget(served, storage)
    assert await _objects(storage) == [first], "the second job names it still, under its own name"
    await served.store.expire(last, 0)
    await _forget(served, storage)
    assert await _objects(storage) == []
    assert await _keys(served) == []


async def test_an_upload_that_waits_for_its_job_keeps_the_object(serve: Serve, storage: Storage) -> None:
    served = await serve(storage=storage)
    first = await _v1(served, "a.tif", TIFF)
    second = await _v1(served, "b.tif", TIFF)
    await _job(served, first)
    await _forget(served, storage)
    await _sweep(served, storage, 1000)
    assert await _objects(storage) == [first]
    await _job(served, second)
    await _forget(served, storage)
    assert (await _objects(storage), await _keys(served)) == ([], [])


async def test_the_first_upload_waits_too_while_the_second_goes(serve: Serve, storage: Storage) -> None:
    served = await serve(storage=storage)
    first = await _v1(served, "a.tif", TIFF)
    await _job(served, await _v1(served, "b.tif", TIFF))
    await _forget(served, storage)
    assert await _objects(storage) == [first]
    await _job(served, first)
    await _forget(served, storage)
    assert (await _objects(storage), await _keys(served)) == ([], [])


async def test_names_that_no_job_came_for_are_swept_and_then_the_object(serve: Serve, storage: Storage) -> None:
    served = await serve(storage=storage)
    first = await _v1(served, "a.tif", TIFF)
    await _v1(served, "b.tif", TIFF)
    kept = await _job(served, first, retention=1000)
    await _sweep(served, storage, 0)
    assert await _objects(storage) == [first]
    assert await served.store.others(first) == set(), "the name of the second is gone: nobody came for it"
    await served.store.expire(kept, 0)
    await _forget(served, storage)
    assert (await _objects(storage), await _keys(served)) == ([], [])
    await _v1(served, "a.tif", TIFF)
    await _v1(served, "b.tif", TIFF)
    await _sweep(served, storage, 0)
    assert (await _objects(storage), await _keys(served)) == ([], [])


async def test_a_file_that_comes_while_its_twin_is_being_deleted_is_stored_anew(served: Served) -> None:
    storage = served.front.storage
    first = await _v1(served, "a.tif", TIFF)
    job = await _job(served, first)
    assert await served.store.release_objects(job) == [first]  # and then the janitor pauses
    second = await _v1(served, "a.tif", TIFF)
    assert await _objects(storage) == sorted([first, second])
    await _forget(served, storage)
    assert await _objects(storage) == [second]
    await _job(served, second)
    await _forget(served, storage)
    assert (await _objects(storage), await _keys(served)) == ([], [])


async def test_what_a_crash_left_half_forgotten_is_finished_for_a_shared_object(served: Served) -> None:
    storage = served.front.storage
    first, second = await _v1(served, "a.tif", TIFF), await _v1(served, "b.tif", TIFF)
    await _job(served, first)
    await _forget(served, storage)
    last = await _job(served, second)
    assert await served.store.release_objects(last) == [first]
    assert await served.store.release_objects(last) == [first], "the next janitor does it all again"
    await _forget(served, storage)
    assert (await _objects(storage), await _keys(served)) == ([], [])


async def test_an_object_that_somebody_removed_by_hand_is_replaced(served: Served) -> None:
    storage = served.front.storage
    first = await _v1(served, "a.tif", TIFF)
    second = await _v1(served, "b.tif", TIFF)
    await storage.delete(first)
    third = await _v1(served, "c.tif", TIFF)
    assert await _objects(storage) == [third]
    for name in (first, second, third):
        async with served.http.get(f"{served.url}/{name}") as answer:
            assert answer.status == 200, name
    assert await audit(served.store) == []


async def test_another_ending_is_another_file(served: Served) -> None:
    names = [await _v1(served, name, TIFF) for name in ("a.tif", "a.tiff", "b.TIF")]
    assert await _objects(served.front.storage) == sorted(names[:2])
    assert names[2].endswith(".TIF")


async def test_nothing_is_shared_between_owners(serve: Serve) -> None:
    served = await serve(auth={"anonymous": "off"})
    store = KeyStore(served.store.redis, served.store.prefix)
    tokens = [(await store.create("x", owner=owner))[1] for owner in ("ann", "ann-bob", "bob")]
    names = [await _v1(served, "a.tif", TIFF, Authorization=f"Bearer {token}") for token in tokens * 2]
    assert await _objects(served.front.storage) == sorted(names[:3]), "one for each owner, and no second one"
    own = {"Authorization": f"Bearer {tokens[0]}"}
    status, job = await served.post("/api/v1/jobs", {"type": "segmentation", "file": names[5]}, **own)
    assert status == 404, job


async def test_without_redis_an_upload_stands_for_itself(serve: Serve) -> None:
    away = open_store("redis://127.0.0.1:1/0", "{away}:")
    served = await serve(on=away)
    names = [await _v1(served, "a.tif", TIFF) for _ in range(2)]
    assert await _objects(served.front.storage) == sorted(names)
    await away.aclose()
