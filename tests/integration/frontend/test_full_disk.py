"""A disk that is really full: 507, nothing half-written is served, and all is well once there is room."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.storage import open_storage
from tests.fixtures.frontend import TIFF, Serve, Served, multipart

_ROOM = 4 * 1024 * 1024
BIG = b"II*\0" + bytes(range(256)) * (_ROOM // 200)
"""More than there is room for."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a small disk, on Linux")
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "tmpfs", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"this machine lets nobody mount: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def _tus(served: Served, data: bytes) -> tuple[int, str]:
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": str(len(data)),
        "Upload-Metadata": "filename " + base64.b64encode(b"cells.tif").decode(),
        "Content-Type": "application/offset+octet-stream",
    }
    async with served.http.post(f"{served.url}/api/v1/uploads", data=io.BytesIO(data), headers=headers) as answer:
        return answer.status, await answer.text()


async def _v1(served: Served, data: bytes) -> tuple[int, str]:
    body, kind = multipart("cells.tif", data)
    headers = {"Content-Type": kind}
    async with served.http.post(f"{served.url}/api/v1/files", data=io.BytesIO(body), headers=headers) as answer:
        return answer.status, await answer.text()


async def test_a_full_disk_refuses_uploads_and_serves_nothing_cut_short(serve: Serve, small_disk: Path) -> None:
    storage = open_storage(small_disk.as_uri())
    served = await serve(storage=storage)
    status, before = await served.upload("before.tif", TIFF)
    assert status == 200
    for way in (_v1, _v1, _tus, _tus):
        status, text = await way(served, BIG)
        assert status == 507, text
        assert "storage-full" in text
        assert "full" in text
    status, problem = await served.upload("cells.tif", BIG)
    assert (status, problem["code"]) == (507, "storage-full")
    assert [found.key async for found in storage.list("uploads/")] == [before["uploadedName"]]
    async with served.http.get(before["imageURL"]) as answer:
        assert await answer.read() == TIFF, "what was there is served as before"


async def test_all_is_well_once_there_is_room(serve: Serve, small_disk: Path) -> None:
    served = await serve(storage=open_storage(small_disk.as_uri()))
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:  # to the last byte, so that not even a description fits
        while True:
            try:
                file.write(bytes(65_536))
                file.flush()
            except OSError:
                break
    answers = await asyncio.gather(*(way(served, TIFF) for way in (_v1, _tus, _v1, _tus)))
    assert [status for status, _ in answers] == [507] * 4, answers
    status, order = await served.post("/api/v1/jobs", {"type": "segmentation", "file": "uploads/none.tif"})
    assert status == 404, order
    ballast.unlink()
    for way in (_v1, _tus):
        status, text = await way(served, TIFF)
        assert status == 201, text
    await served.submit()
    (job,) = await served.worker.claim()
    await served.worker.complete(job)
    status, view = await served.get(f"/api/v1/jobs/{job.id}")
    assert (status, view["status"]) == (200, "done")
