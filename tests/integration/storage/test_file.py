"""What only a folder has: marks beside files that people placed, no room, killed writers, power cuts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from shared.errors import InvalidInput, NotFound, Retry
from shared.storage import open_storage, read_all
from shared.storage.file import FileStorage


@pytest.fixture
def folder(tmp_path: Path) -> FileStorage:
    opened = open_storage(f"file://{tmp_path}/root", "mine")
    assert isinstance(opened, FileStorage)
    return opened


def temporaries(storage: FileStorage) -> list[Path]:
    return list((storage.folder / ".kiosk/tmp").glob("*"))


async def test_the_object_is_a_plain_file(folder: FileStorage) -> None:
    await folder.put("uploads/a.tif", b"bytes")
    path = folder.local_path("uploads/a.tif")
    assert path is not None
    assert path == folder.folder / "uploads/a.tif"
    assert path.read_bytes() == b"bytes"
    assert folder.url("uploads/a.tif") == path.as_uri()
    assert await folder.signed_url("uploads/a.tif", timedelta(hours=1)) is None


async def test_a_file_that_a_person_placed_has_no_mark(folder: FileStorage) -> None:
    (folder.folder / "uploads").mkdir(parents=True)
    (folder.folder / "uploads/theirs.tif").write_bytes(b"theirs")
    found = await folder.stat("uploads/theirs.tif")
    assert (found.deployment, found.sha256, found.size) == ("", "", 6)
    assert [one.deployment async for one in folder.list("uploads/")] == [""]


async def test_two_deployments_in_one_folder_tell_their_objects_apart(folder: FileStorage) -> None:
    other = open_storage(folder.folder.as_uri(), "other")
    await folder.put("a", b"1")
    await other.put("b", b"2")
    assert [(one.key, one.deployment) async for one in folder.list()] == [("a", "mine"), ("b", "other")]


async def test_a_file_cut_short_by_a_power_failure_is_never_served(folder: FileStorage) -> None:
    await folder.put("a", b"0123456789")
    os.truncate(folder.folder / "a", 4)
    with pytest.raises(NotFound):
        await read_all(folder.get("a"))
    assert [one async for one in folder.list()] == []


async def test_a_crash_between_description_and_rename_keeps_the_old_object(folder: FileStorage) -> None:
    await folder.put("a", b"old")
    about = folder._about("a", 1000, "00", "x/y", None)
    about["sizes"].append(3)
    folder._write_about("a", about)
    assert await read_all(folder.get("a")) == b"old"
    assert (await folder.stat("a")).sha256 == ""


async def test_deleting_leaves_no_empty_folder_and_no_description(folder: FileStorage) -> None:
    await folder.put("output/1/2/x", b"x")
    await folder.put("output/3/y", b"y")
    await folder.delete_prefix("output/1/")
    assert [path.name for path in (folder.folder / "output").iterdir()] == ["3"]
    await folder.delete("output/3/y")
    assert [path.name for path in folder.folder.iterdir()] == [".kiosk"]
    assert not [path for path in (folder.folder / ".kiosk").rglob("*") if path.is_file()]


async def test_an_object_cannot_lie_under_another(folder: FileStorage) -> None:
    await folder.put("a", b"x")
    await folder.put("d/e", b"x")
    with pytest.raises(InvalidInput, match="lies under"):
        await folder.put("a/b", b"y")
    with pytest.raises(InvalidInput, match="lies under"):
        await folder.put("d", b"y")
    assert temporaries(folder) == []
    assert await read_all(folder.get("a")) == b"x"


@pytest.mark.parametrize("source", ["bytes", "stream"])
def test_no_room_is_said_and_leaves_nothing(tmp_path: Path, source: str) -> None:
    """A process that may write no file above 1 MB (a real limit of the kernel) puts 4 MB."""
    program = f"""
import asyncio, resource, signal
from shared.errors import StorageFull
from shared.storage import open_storage

async def stream():
    for _ in range(64):
        yield bytes(65536)

async def main():
    storage = open_storage("file://{tmp_path}/root")
    await storage.put("small", b"fits")
    try:
        await storage.put("big", bytes(4 << 20) if {source == "bytes"} else stream())
    except StorageFull as error:
        print(error, [one.key async for one in storage.list()])

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "The storage is full: it takes no more until there is room. ['small']\n", done.stderr
    assert list((tmp_path / "root/.kiosk/tmp").iterdir()) == []


async def test_a_killed_writer_leaves_nothing_visible_and_is_swept(tmp_path: Path) -> None:
    program = f"""
import asyncio
from shared.storage import open_storage

async def endless():
    yield bytes(2 << 20)
    print("written", flush=True)
    await asyncio.Event().wait()

asyncio.run(open_storage("file://{tmp_path}/root").put("k", endless()))
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        process.kill()
    storage = open_storage(f"file://{tmp_path}/root", "kiosk")
    assert isinstance(storage, FileStorage)
    assert [one async for one in storage.list()] == []
    assert len(temporaries(storage)) == 1
    assert await storage.sweep(timedelta(hours=1)) == 0, "it may still be written"
    assert await storage.sweep(timedelta(seconds=-5)) == 1
    assert temporaries(storage) == []


async def test_sweep_removes_only_what_describes_nothing(folder: FileStorage) -> None:
    await folder.put("a", b"x")
    await folder.put("b", b"x")
    (folder.folder / "b").unlink()
    old = time.time() - 7200
    for path in (folder.folder / ".kiosk/meta").glob("*/*"):
        os.utime(path, (old, old))
    assert await folder.sweep(timedelta(hours=1)) == 1
    assert (await folder.stat("a")).deployment == "mine"


async def test_a_folder_that_may_not_be_written_is_to_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/.kiosk").symlink_to("/proc/1/nothing")
    with pytest.raises((Retry, OSError)):
        await open_storage(f"file://{tmp_path}/root").check()


async def test_a_copy_costs_no_second_copy_and_survives_the_first(folder: FileStorage) -> None:
    await folder.put("a", bytes(1 << 20))
    await folder.copy("a", "b")
    assert (folder.folder / "a").stat().st_ino == (folder.folder / "b").stat().st_ino
    await folder.put("a", b"new")
    assert (await folder.stat("b")).size == 1 << 20


async def test_fsync_is_asked_for_in_the_url(tmp_path: Path) -> None:
    storage = open_storage(f"file://{tmp_path}/with%20space?fsync=1")
    await storage.put("a/b", b"x")
    assert (tmp_path / "with space/a/b").read_bytes() == b"x"
