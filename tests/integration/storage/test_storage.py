"""What every storage does; the same tests on a folder and on a bucket."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.errors import InvalidInput, NotFound
from shared.storage import Storage, open_storage, read_all


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


async def keys(storage: Storage, prefix: str = "") -> list[str]:
    return [found.key async for found in storage.list(prefix)]


@pytest.mark.parametrize("size", [0, 1, 255, 512 * 1024, 4 * 1024 * 1024 - 1, 4 * 1024 * 1024, 5 * 1024 * 1024 + 17])
async def test_what_was_put_is_got(storage: Storage, size: int, noise: bytes) -> None:
    data = noise[:size]
    pieces = [data[at : at + 100_000] for at in range(0, size, 100_000)]
    stored = await storage.put("uploads/a.tif", stream(*pieces), "image/tiff", {"original": "naïve ☃.tif"})
    assert (stored.key, stored.size, stored.sha256) == ("uploads/a.tif", size, hashlib.sha256(data).hexdigest())
    assert await read_all(storage.get("uploads/a.tif")) == data
    found = await storage.stat("uploads/a.tif")
    assert (found.size, found.content_type, found.sha256) == (size, "image/tiff", stored.sha256)
    assert found.metadata == {"original": "naïve ☃.tif"}
    assert found.etag == stored.etag
    assert found.deployment == storage.deployment


@pytest.mark.parametrize("source", ["bytes", "path", "stream"])
async def test_every_kind_of_source(storage: Storage, source: str, tmp_path: Path, noise: bytes) -> None:
    (tmp_path / "file").write_bytes(noise)
    await storage.put("k", {"bytes": noise, "path": tmp_path / "file", "stream": stream(noise)}[source])
    assert await read_all(storage.get("k")) == noise


@pytest.mark.parametrize(
    ("start", "end"), [(0, 10), (5, None), (1_000_000, 1_600_001), (10, 10), (10, 10**9), (10**9, None)]
)
async def test_a_range_is_that_of_a_slice(storage: Storage, noise: bytes, start: int, end: int | None) -> None:
    await storage.put("k", noise)
    assert await read_all(storage.get("k", start, end)) == noise[start:end]


async def test_put_again_replaces_and_changes_the_etag(storage: Storage) -> None:
    first = await storage.put("k", b"one", "a/b", {"x": "1"})
    second = await storage.put("k", b"two, longer", "c/d")
    assert first.etag != second.etag
    found = await storage.stat("k")
    assert (await read_all(storage.get("k")), found.content_type, found.metadata) == (b"two, longer", "c/d", {})
    assert found.sha256 == hashlib.sha256(b"two, longer").hexdigest()


async def test_a_stream_that_breaks_leaves_nothing(storage: Storage, noise: bytes) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield noise
        raise ConnectionResetError("the client went away")

    with pytest.raises(ConnectionResetError):
        await storage.put("k", broken())
    assert await keys(storage) == []
    with pytest.raises(NotFound):
        await storage.stat("k")


async def test_a_broken_replacement_leaves_the_old_object(storage: Storage, noise: bytes) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield noise
        raise ConnectionResetError

    await storage.put("k", b"old")
    with pytest.raises(ConnectionResetError):
        await storage.put("k", broken())
    assert await read_all(storage.get("k")) == b"old"


async def test_a_cancelled_put_leaves_nothing(storage: Storage, noise: bytes) -> None:
    given = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield noise
        given.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(storage.put("k", endless()))
    await given.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await keys(storage) == []


async def test_what_is_not_there(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="There is no object 'nowhere' in the storage"):
        await storage.stat("nowhere")
    with pytest.raises(NotFound):
        await read_all(storage.get("nowhere"))
    with pytest.raises(NotFound):
        await storage.download("nowhere", tmp_path / "x")
    with pytest.raises(NotFound):
        await storage.copy("nowhere", "else")
    assert not (tmp_path / "x").exists()
    assert await storage.delete("nowhere") is False
    assert await storage.delete_prefix("nowhere/") == 0


async def test_a_folder_is_no_object(storage: Storage) -> None:
    await storage.put("a/b", b"x")
    with pytest.raises(NotFound):
        await storage.stat("a")
    with pytest.raises(NotFound):
        await read_all(storage.get("a"))


async def test_list_is_by_any_prefix_and_in_order(storage: Storage) -> None:
    names = ["a", "b.c", "b/1", "b/10", "b/2/x", "b0", "output/1/r.zip", "output/10/r.zip", "é"]
    for name in reversed(names):
        await storage.put(name, name.encode())
    assert await keys(storage) == sorted(names)
    assert await keys(storage, "b") == ["b.c", "b/1", "b/10", "b/2/x", "b0"]
    assert await keys(storage, "b/1") == ["b/1", "b/10"]
    assert await keys(storage, "output/1/") == ["output/1/r.zip"]
    assert await keys(storage, "nothing/") == []
    found = [one async for one in storage.list("b/2")]
    assert [(one.key, one.size, one.deployment) for one in found] == [("b/2/x", 5, storage.deployment)]


async def test_delete_prefix_spares_the_neighbours(storage: Storage) -> None:
    for name in ["output/1/a", "output/1/2/b", "output/10/c", "output/1.txt"]:
        await storage.put(name, b"x")
    with pytest.raises(InvalidInput, match="must end with a slash"):
        await storage.delete_prefix("output/1")
    assert await storage.delete_prefix("output/1/") == 2
    assert await keys(storage) == ["output/1.txt", "output/10/c"]


async def test_delete_then_put_again(storage: Storage) -> None:
    await storage.put("a/b/c", b"one")
    assert await storage.delete("a/b/c") is True
    assert await storage.delete("a/b/c") is False
    await storage.put("a/b/c", b"two")
    assert await read_all(storage.get("a/b/c")) == b"two"


async def test_copy_is_an_object_of_its_own(storage: Storage, noise: bytes) -> None:
    await storage.put("from", noise, "image/tiff", {"a": "b"})
    stored = await storage.copy("from", "to/here")
    assert (stored.size, stored.sha256) == (len(noise), hashlib.sha256(noise).hexdigest())
    await storage.put("from", b"changed")
    await storage.delete("from")
    found = await storage.stat("to/here")
    assert (found.content_type, found.metadata, found.deployment) == ("image/tiff", {"a": "b"}, storage.deployment)
    assert await read_all(storage.get("to/here")) == noise


async def test_download_and_upload(storage: Storage, tmp_path: Path, noise: bytes) -> None:
    (tmp_path / "in").write_bytes(noise)
    await storage.upload(tmp_path / "in", "k", "image/png")
    assert await storage.download("k", tmp_path / "out") == len(noise)
    assert (tmp_path / "out").read_bytes() == noise
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["in", "out"]


@pytest.mark.parametrize(
    "name", ["a b", "ä%20ö", "#?&=+", "x,y:z;", "日本.tif", "%2e%2e", "a'\"b", ".hidden", "x" * 255]
)
async def test_names_of_any_kind(storage: Storage, name: str) -> None:
    await storage.put(f"uploads/{name}", b"x")
    assert await keys(storage, "uploads/") == [f"uploads/{name}"]
    assert await read_all(storage.get(f"uploads/{name}")) == b"x"
    assert await storage.delete(f"uploads/{name}")


async def test_bad_keys_are_refused_everywhere(storage: Storage, tmp_path: Path) -> None:
    for call in [
        storage.put("../x", b""),
        storage.stat("../x"),
        read_all(storage.get("/x")),
        storage.download("a//b", tmp_path / "x"),
        storage.delete(".."),
        storage.copy("../x", "y"),
        storage.delete_prefix("../"),
    ]:
        with pytest.raises(InvalidInput):
            await call


async def test_many_at_once(storage: Storage, noise: bytes) -> None:
    parts = [noise[at : at + 700_000] for at in range(20)]
    await asyncio.gather(*(storage.put(f"many/{at}", stream(part)) for at, part in enumerate(parts)))
    got = await asyncio.gather(*(read_all(storage.get(f"many/{at}")) for at in range(20)))
    assert got == parts


async def test_check_leaves_nothing(storage: Storage) -> None:
    await storage.check()
    assert await keys(storage) == []


def test_names_that_are_no_text_are_no_keys(tmp_path: Path) -> None:
    """In a folder that people use too, a file may be called anything."""
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "a.tif").write_bytes(b"a")
    (tmp_path / "uploads" / os.fsdecode(b"\xe4.tif")).write_bytes(b"no key names me")

    async def listed() -> list[str]:
        return await keys(open_storage(tmp_path.as_uri(), "mine"), "uploads/")

    assert asyncio.run(listed()) == ["uploads/a.tif"]
