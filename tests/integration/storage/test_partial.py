"""Uploads in several goes: whatever breaks off wherever, the object has the bytes that were sent."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from shared.errors import InvalidInput, NotFound
from shared.storage import Storage, open_storage, partial_gcs, read_all
from shared.storage.file import FileStorage
from shared.storage.gcs import GcsStorage
from shared.storage.partial import Partial, Partials
from shared.storage.unfinished import open_partials, sweep_unfinished


@pytest.fixture
def partials(storage: Storage) -> Partials:
    return open_partials(storage)


async def begun(partials: Partials, length: int, life: float = 3600.0) -> Partial:
    partial = Partial(secrets.token_hex(16), length, "me", "filename YQ==", life)
    await partials.create(partial)
    return partial


async def stream(data: bytes, breaks_at: int | None = None) -> AsyncIterator[bytes]:
    end = len(data) if breaks_at is None else breaks_at
    for at in range(0, end, 99_991):
        yield data[at : min(at + 99_991, end)]
    if breaks_at is not None:
        raise ConnectionResetError("cut")


def another(storage: Storage) -> Storage:
    """The same storage as another process sees it."""
    if isinstance(storage, FileStorage):
        return FileStorage(storage.folder, storage.deployment)
    assert isinstance(storage, GcsStorage)
    return GcsStorage(storage.to, storage.prefix, storage.deployment)


@pytest.mark.parametrize(
    "cuts", [[], [0], [1], [511], [524_288], [1, 2, 3], [3_000_000, 4_194_304, 4_194_305], [5_242_897]]
)
async def test_what_breaks_off_goes_on_through_another_process(storage: Storage, noise: bytes, cuts: list[int]) -> None:
    partial = await begun(open_partials(storage), len(noise))
    for cut in cuts:
        partials = open_partials(another(storage))
        at = (await partials.progress(partial)).offset
        with pytest.raises(ConnectionResetError):
            await partials.append(partial, at, stream(noise[at:], cut - at))
        assert (await open_partials(storage).progress(partial)).offset == cut
    partials = open_partials(another(storage))
    found = await partials.find(partial.id)
    assert found == partial
    at = (await partials.progress(found)).offset
    assert await partials.append(found, at, stream(noise[at:])) == len(noise)
    stored = await partials.finish(found, f"uploads/{partial.id}.tif", "image/tiff", {"name": "x.tif"})
    assert stored.size == len(noise)
    assert await read_all(storage.get(stored.key)) == noise
    stat = await storage.stat(stored.key)
    assert (stat.content_type, stat.deployment, stat.metadata) == ("image/tiff", "mine", {"name": "x.tif"})
    if isinstance(storage, FileStorage):
        assert stat.sha256 == hashlib.sha256(noise).hexdigest()
    finished = await partials.find(partial.id)
    assert finished.key == stored.key
    assert (await partials.progress(finished)).offset == len(noise)


async def test_bytes_at_a_wrong_offset_are_refused(partials: Partials) -> None:
    partial = await begun(partials, 10)
    await partials.append(partial, 0, stream(b"abc"))
    for offset in (0, 2, 4, 10):
        with pytest.raises(InvalidInput, match="is at offset 3") as caught:
            await partials.append(partial, offset, stream(b"xyz"))
        assert caught.value.code == "conflict"
    assert await partials.head(partial, 100) == b"abc"
    assert await partials.head(partial, 2) == b"ab"


async def test_of_two_writers_at_once_one_is_refused_and_nothing_is_mixed(storage: Storage, noise: bytes) -> None:
    """The first one's connection is dead, but nobody knows yet; then its last bytes arrive after all."""
    first, second = open_partials(storage), open_partials(another(storage))
    partial = await begun(first, len(noise))

    async def late() -> AsyncIterator[bytes]:
        yield noise[:1_000_000]
        at = (await second.progress(partial)).offset
        assert await second.append(partial, at, stream(noise[at:])) == len(noise)
        yield noise[1_000_000:]

    if isinstance(storage, FileStorage):
        with pytest.raises(InvalidInput, match="is at offset"):
            await first.append(partial, 0, late())
    else:  # both have written a part from the first byte on
        assert await first.append(partial, 0, late()) == len(noise)
    assert (await first.progress(partial)).offset == len(noise)
    stored = await first.finish(partial, f"uploads/{partial.id}.tif", "image/tiff", {})
    assert await read_all(storage.get(stored.key)) == noise


async def test_a_checksum_admits_all_or_nothing(partials: Partials) -> None:
    partial = await begun(partials, 10)
    good = hashlib.sha1(b"hello").digest()
    assert await partials.append_if(partial, 0, stream(b"hello"), "sha1", good) == 5
    with pytest.raises(InvalidInput, match="sha1 checksum") as caught:
        await partials.append_if(partial, 5, stream(b"w0rld"), "sha1", hashlib.sha1(b"world").digest())
    assert caught.value.code == "checksum-mismatch"
    with pytest.raises(ConnectionResetError):
        await partials.append_if(partial, 5, stream(b"world", 3), "sha1", hashlib.sha1(b"world").digest())
    with pytest.raises(InvalidInput, match="is at offset 5"):
        await partials.append_if(partial, 0, stream(b"hello"), "sha1", good)
    assert (await partials.progress(partial)).offset == 5
    assert await partials.append_if(partial, 5, stream(b"world"), "md5", hashlib.md5(b"world").digest()) == 10
    assert await partials.head(partial, 100) == b"helloworld"


async def test_a_killed_finisher_is_followed_by_another(storage: Storage, partials: Partials) -> None:
    """The object is there, but what it became is not written down."""
    partial = await begun(partials, 5)
    await partials.append(partial, 0, stream(b"hello"))
    key = f"uploads/{partial.id}.tif"
    await partials.finish(partial, key, "image/tiff", {})
    await partials.create(partial) if isinstance(storage, GcsStorage) else partials._write_about(partial)  # type: ignore[attr-defined]
    again = open_partials(another(storage))
    found = await again.find(partial.id)
    assert found.key == ""
    assert (await again.finish(found, key, "image/tiff", {})).size == 5
    assert (await again.find(partial.id)).key == key
    assert await read_all(storage.get(key)) == b"hello"


async def test_who_finishes_late_makes_no_object_of_the_parts_that_are_left(
    gcs_server: object, gcs_bucket: str, monkeypatch: pytest.MonkeyPatch, noise: bytes
) -> None:
    """Another has finished it and is removing the parts, in no order."""
    monkeypatch.setattr(partial_gcs, "PART", 1000)
    storage = open_storage(f"gs://{gcs_bucket}", "mine", gcs_api_root=gcs_server.url)  # type: ignore[attr-defined]
    partials = partial_gcs.GcsPartials(storage)  # type: ignore[arg-type]
    partial = await begun(partials, 2_500)
    await partials.append(partial, 0, stream(noise[:2_500]))
    key = f"uploads/{partial.id}.tif"
    await storage.put(key, noise[:2_500])
    await partials._own.delete((await partials._parts(partial))[-1].key)
    assert (await partials.finish(partial, key, "image/tiff", {})).size == 2_500
    assert await read_all(storage.get(key)) == noise[:2_500]
    await storage.aclose()


async def test_join_is_one_after_another_and_leaves_the_parts(storage: Storage, partials: Partials) -> None:
    parts = [await begun(partials, 3) for _ in range(3)]
    for part, text in zip(parts, [b"aaa", b"bbb", b"ccc"], strict=True):
        await partials.append(part, 0, stream(text))
    whole = Partial(secrets.token_hex(16), 9, "me", "", 60.0, parts=tuple(part.id for part in parts))
    await partials.join([parts[2], parts[0], parts[1]], whole)
    assert await partials.find(whole.id) == whole
    stored = await partials.finish(whole, f"uploads/{whole.id}.tif", "image/tiff", {})
    assert await read_all(storage.get(stored.key)) == b"cccaaabbb"
    assert (await partials.progress(parts[0])).offset == 3


async def test_removal_leaves_nothing(storage: Storage, partials: Partials) -> None:
    partial = await begun(partials, 5)
    await partials.append(partial, 0, stream(b"hel"))
    assert await partials.remove(partial.id) is True
    assert await partials.remove(partial.id) is False
    for call in (partials.find(partial.id), partials.progress(partial), partials.append(partial, 3, stream(b"lo"))):
        with pytest.raises(NotFound, match="begin a new one"):
            await call
    assert [one async for one in storage.list()] == []
    if isinstance(storage, FileStorage):
        assert list((storage.folder / ".kiosk/partial").iterdir()) == []


@pytest.mark.parametrize("upload", ["", "..", "x", "A" * 32, "0" * 31, "../../etc"])
async def test_what_can_be_no_id_is_not_found(partials: Partials, upload: str) -> None:
    with pytest.raises(NotFound):
        await partials.find(upload)
    with pytest.raises(NotFound):
        await partials.remove(upload)


async def test_sweep_removes_what_is_over(storage: Storage, partials: Partials) -> None:
    old, young = await begun(partials, 5, life=60), await begun(partials, 5, life=6000)
    await partials.append(old, 0, stream(b"hel"))
    assert await partials.sweep(time.time()) == 0
    assert await partials.sweep(time.time() + 120) == 1
    with pytest.raises(NotFound):
        await partials.find(old.id)
    assert await partials.find(young.id) == young
    assert await sweep_unfinished(storage, timedelta(hours=1)) == 0


async def test_unfinished_uploads_are_no_objects(storage: Storage, partials: Partials) -> None:
    partial = await begun(partials, 5)
    await partials.append(partial, 0, stream(b"hello"))
    assert [one async for one in storage.list()] == []


async def test_many_parts_are_composed_in_steps(
    gcs_server: object, gcs_bucket: str, monkeypatch: pytest.MonkeyPatch, noise: bytes
) -> None:
    monkeypatch.setattr(partial_gcs, "PART", 1000)
    storage = open_storage(f"gs://{gcs_bucket}", "mine", gcs_api_root=gcs_server.url)  # type: ignore[attr-defined]
    partials = open_partials(storage)
    partial = await begun(partials, 70_500)
    await partials.append(partial, 0, stream(noise[:70_500]))
    stored = await partials.finish(partial, f"uploads/{partial.id}.tif", "image/tiff", {})
    assert await read_all(storage.get(stored.key)) == noise[:70_500]
    left = [one.key async for one in partials._own.list()]  # type: ignore[attr-defined]
    assert left == [f"{partial.id}/about"]
    await storage.aclose()


async def test_two_that_finish_at_once_make_one_object(storage: Storage, noise: bytes) -> None:
    partials, others = open_partials(storage), open_partials(another(storage))
    partial = await begun(partials, len(noise))
    await partials.append(partial, 0, stream(noise))
    key = f"uploads/{partial.id}.tif"
    stored = await asyncio.gather(*(one.finish(partial, key, "image/tiff", {}) for one in (partials, others) * 3))
    assert {one.size for one in stored} == {len(noise)}
    assert (await others.find(partial.id)).key == key
    assert await read_all(storage.get(key)) == noise


def test_no_room_keeps_what_fitted(tmp_path: Path) -> None:
    """A process that may write no file above 1 MB (a real limit of the kernel) appends 2 MB, then again."""
    program = f"""
import asyncio, resource, signal
from shared.errors import StorageFull
from shared.storage import open_storage
from shared.storage.partial import Partial
from shared.storage.unfinished import open_partials

async def stream(data):
    for at in range(0, len(data), 65536):
        yield data[at : at + 65536]

async def main():
    partials = open_partials(open_storage("file://{tmp_path}/root"))
    partial = Partial("0" * 32, 2 << 20, "me", "", 60.0)
    await partials.create(partial)
    data = bytes(range(256)) * 8192
    for _ in range(2):
        at = (await partials.progress(partial)).offset
        try:
            await partials.append(partial, at, stream(data[at:]))
        except StorageFull as error:
            print(error, (await partials.progress(partial)).offset)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))
    at = (await partials.progress(partial)).offset
    await partials.append(partial, at, stream(data[at:]))
    print((await partials.finish(partial, "uploads/" + "0" * 32, "image/tiff", {{}})).sha256)

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 4 << 20))
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    full = "The storage is full: it takes no more until there is room. 1000000"
    assert done.stdout.splitlines() == [full, full, hashlib.sha256(bytes(range(256)) * 8192).hexdigest()]
