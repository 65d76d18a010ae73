"""The writer of blocks: order, errors and the bound on what waits for the disk."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path

import pytest

from shared.storage import writer as writing
from shared.storage.protocol import BLOCK
from shared.storage.writer import BlockWriter

SIZES = [1, 7, 1400, 65_536, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 0, 5]


@pytest.mark.parametrize("others", [0, 100])
async def test_chunks_of_all_sizes_are_written_and_digested_in_their_order(tmp_path: Path, others: int) -> None:
    chunks = [bytes([number % 256]) * size for number, size in enumerate(SIZES * 5)]
    more = [BlockWriter(tmp_path / f"{number}") for number in range(others)]
    writer = BlockWriter(tmp_path / "out")
    assert len(writer._lines) == (1 if others else 2), "a thread for the digest alone only where cores are free"
    for chunk in chunks:
        await writer.write(chunk)
    whole = b"".join(chunks)
    assert await writer.finish() == (len(whole), hashlib.sha256(whole).hexdigest())
    for each in (writer, *more):
        await each.aclose()
    assert (tmp_path / "out").read_bytes() == whole


async def test_who_brings_more_waits_while_the_disk_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = threading.Event()
    write = BlockWriter._write
    monkeypatch.setattr(BlockWriter, "_write", lambda self, block: disk.wait() and write(self, block))
    writer = BlockWriter(tmp_path / "out")
    taken = 0

    async def bring() -> None:
        nonlocal taken
        for _ in range(20):
            await writer.write(bytes(BLOCK))
            taken += 1

    bringing = asyncio.create_task(bring())
    while writer._room.is_set() or taken * BLOCK < writing._AHEAD:
        await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    assert taken * BLOCK == writing._AHEAD
    disk.set()
    await bringing
    size, _ = await writer.finish()
    await writer.aclose()
    assert size == 20 * BLOCK


async def test_many_writers_share_what_may_wait(tmp_path: Path) -> None:
    before = BlockWriter._share()
    writers = [BlockWriter(tmp_path / f"{number}") for number in range(200)]
    assert BlockWriter._share() == BLOCK
    for writer in writers:
        await writer.aclose()
    assert BlockWriter._share() == before == writing._AHEAD


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
async def test_a_full_disk_is_told_to_who_brings_more_and_to_who_finishes() -> None:
    writer = BlockWriter(Path("/dev/full"))

    async def bring() -> None:
        for _ in range(20):
            await writer.write(bytes(BLOCK))

    with pytest.raises(OSError, match="No space"):
        await bring()
    with pytest.raises(OSError, match="No space"):
        await writer.finish()
    await writer.aclose()
