"""One zip of many: whatever the zips are like, each member comes out as it went in."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path

import pytest

from services.frontend import bundle as bundles
from services.frontend.bundle import Item, bundle, folders
from shared.storage import Storage, open_storage

KINDS = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED}


async def made(storage: Storage, items: list[Item], notes: list[str] | None = None) -> zipfile.ZipFile:
    data = b"".join([chunk async for chunk in bundle(storage, items, notes if notes is not None else [])])
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.testzip() is None
    return archive


def zipped(members: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED, *, streamed: bool = False) -> bytes:
    """Return a zip; a streamed one tells the sizes of its members after them."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return not streamed

    out = Pipe()
    with zipfile.ZipFile(out, "w", kind) as archive:
        for name, data in members.items():
            with archive.open(name, "w", force_zip64=streamed) as member:
                member.write(data)
    return out.getvalue()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", [False, True])
async def test_members_come_out_as_they_went_in(tmp_path: Path, kind: str, *, streamed: bool) -> None:
    storage = open_storage(tmp_path.as_uri())
    noise = random.Random(5).randbytes(700_000)
    members = {"labels.tif": noise, "ünï/spots.csv": b"x,y\n1,2\n", "empty.txt": b""}
    await storage.put("output/a.zip", zipped(members, KINDS[kind], streamed=streamed))
    await storage.put("output/b.zip", zipped({"labels.tif": b"other" * 9}))
    archive = await made(storage, [Item("output/a.zip", "a"), Item("output/b.zip", "b")])
    found = {name: archive.read(name) for name in archive.namelist()}
    assert found == {**{f"a/{name}": data for name, data in members.items()}, "b/labels.tif": b"other" * 9}
    assert archive.getinfo("b/labels.tif").compress_type == zipfile.ZIP_DEFLATED


async def test_a_directory_that_is_longer_than_the_first_look(tmp_path: Path) -> None:
    storage = open_storage(tmp_path.as_uri())
    members = {f"{n:04}-{'x' * 100}.csv": str(n).encode() for n in range(1500)}
    await storage.put("output/a.zip", zipped(members))
    archive = await made(storage, [Item("output/a.zip", "a")])
    assert {name.removeprefix("a/"): archive.read(name) for name in archive.namelist()} == members


async def test_what_is_gone_or_broken_is_named_and_left_out(tmp_path: Path) -> None:
    storage = open_storage(tmp_path.as_uri())
    await storage.put("output/b.zip", b"no zip at all")
    await storage.put("output/c.zip", zipped({"labels.tif": b"cells"}))
    items = [Item("output/a.zip", "a"), Item("output/b.zip", "b"), Item("output/c.zip", "c")]
    archive = await made(storage, items, ["d: it has failed."])
    assert archive.namelist() == ["c/labels.tif", "NOT-INCLUDED.txt"]
    told = archive.read("NOT-INCLUDED.txt").decode().splitlines()
    assert [line.partition(":")[0] for line in told] == ["d", "a", "b"]


def test_more_than_32_bits(tmp_path: Path) -> None:
    out, size = bundles._Writer(), 5_000_000_000
    large = zipfile.ZipInfo("large.tif")
    large.CRC = 0
    large.compress_size = large.file_size = size
    with (tmp_path / "all.zip").open("wb") as file:
        file.write(out.begin(large, "a/large.tif"))
        file.seek(size, io.SEEK_CUR)  # a hole: nothing is written
        out.done(size)
        file.write(out.small("small.txt", b"cells"))
        file.write(out.end())
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert {info.filename: info.file_size for info in archive.infolist()} == {"a/large.tif": size, "small.txt": 5}
        assert archive.read("small.txt") == b"cells"
        with archive.open("a/large.tif") as member:
            assert member.read(9) == bytes(9)


def test_folders_are_named_after_images_and_are_distinct() -> None:
    assert folders(["a.tif", "A.png", "b.ome.tif", "a.tif", ".tif"]) == ["a", "A (2)", "b.ome", "a (3)", ".tif"]
