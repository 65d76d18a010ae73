"""The pool of decoding processes: warm, bounded, replaced when one dies, and nothing leaks into them."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from services.consumer.reading import Decoder, ReadLimits
from services.consumer.reading.decoder import _Helper
from shared.errors import InvalidInput, Retry

IMAGE = (np.random.default_rng(0).random((64, 48)) * 60000).astype(np.uint16)


@pytest.fixture
async def decoder() -> AsyncIterator[Decoder]:
    made = Decoder(ReadLimits(), processes=2, timeout=30)
    yield made
    await made.aclose()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "image.tif", IMAGE)
    return tmp_path / "image.tif"


def helpers() -> set[int]:
    """Return the decoding processes that this process started."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if int(parent) == os.getpid() and b"services.consumer.reading.helper" in command:
            found.add(int(folder.name))
    return found


async def opened_for_reading(fifo: Path) -> int:
    """Wait until a helper has opened the named pipe that it takes for an image; return our end."""
    return await asyncio.to_thread(os.open, fifo, os.O_WRONLY)


async def test_a_decoder_finds_packages_where_this_process_does(
    decoder: Decoder, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container they are not in Python's own folders, but where PYTHONPATH says."""
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "sitecustomize.py").write_text(f"open({str(tmp_path / 'seen')!r}, 'w').close()\n")
    monkeypatch.setenv("PYTHONPATH", str(packages))
    await decoder.decode(image, tmp_path / "image.npy")
    assert (tmp_path / "seen").exists()


async def kill_helper(number: signal.Signals) -> None:
    """Kill the one decoding process there is, and wait until it is gone."""
    (helper,) = helpers()
    ended = os.pidfd_open(helper)
    os.kill(helper, number)
    await asyncio.to_thread(select.select, [ended], [], [])
    os.close(ended)


async def test_one_process_stays_for_the_next_file(decoder: Decoder, image: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        decoded = await decoder.decode(image, tmp_path / f"{name}.npy")
        assert np.array_equal(decoded.open()[0, 0], IMAGE)
        assert decoded.shape == (1, 1, 64, 48)
    assert len(helpers()) == 1


async def test_files_are_decoded_side_by_side(decoder: Decoder, image: Path, tmp_path: Path) -> None:
    found = await asyncio.gather(*(decoder.decode(image, tmp_path / f"{n}.npy") for n in range(20)))
    assert all(np.array_equal(one.open()[0, 0], IMAGE) for one in found)
    assert len(helpers()) == 2


async def test_a_wrong_file_is_refused_and_leaves_nothing(decoder: Decoder, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"hello\n")
    with pytest.raises(InvalidInput, match="a text"):
        await decoder.decode(tmp_path / "a.png", tmp_path / "out.npy")
    with pytest.raises(InvalidInput, match="no longer there"):
        await decoder.decode(tmp_path / "missing.png", tmp_path / "out.npy")
    assert not (tmp_path / "out.npy").exists()


async def test_the_users_order_arrives(decoder: Decoder, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((64, 48, 30), np.uint8))
    decoded = await decoder.decode(tmp_path / "a.npy", tmp_path / "out.npy", dimension_order="xyb")
    assert (decoded.dim_order, decoded.shape) == ("XYB", (30, 1, 64, 48))
    with pytest.raises(InvalidInput, match="Dimension order 'QQ'"):
        await decoder.decode(tmp_path / "a.npy", tmp_path / "out.npy", dimension_order="qq")


async def test_a_file_that_kills_its_decoder_twice_is_at_fault(decoder: Decoder, image: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "trap.tif")
    task = asyncio.create_task(decoder.decode(tmp_path / "trap.tif", tmp_path / "out.npy"))
    for _ in range(2):
        end = await opened_for_reading(tmp_path / "trap.tif")
        await kill_helper(signal.SIGSEGV)
        os.close(end)
    with pytest.raises(InvalidInput, match="makes its decoder crash") as caught:
        await task
    assert caught.value.code == "decoder-crashed"
    assert np.array_equal((await decoder.decode(image, tmp_path / "out.npy")).open()[0, 0], IMAGE)


async def test_a_process_killed_from_outside_costs_the_file_nothing(
    decoder: Decoder, image: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "trap.tif")
    task = asyncio.create_task(decoder.decode(tmp_path / "trap.tif", tmp_path / "out.npy"))
    end = await opened_for_reading(tmp_path / "trap.tif")
    image.replace(tmp_path / "trap.tif")
    await kill_helper(signal.SIGKILL)
    os.close(end)
    assert np.array_equal((await task).open()[0, 0], IMAGE)


async def test_processes_killed_again_and_again_mean_later(decoder: Decoder, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "trap.tif")
    task = asyncio.create_task(decoder.decode(tmp_path / "trap.tif", tmp_path / "out.npy"))
    for _ in range(2):
        end = await opened_for_reading(tmp_path / "trap.tif")
        await kill_helper(signal.SIGKILL)
        os.close(end)
    with pytest.raises(Retry):
        await task


async def test_an_idle_process_that_died_is_replaced(decoder: Decoder, image: Path, tmp_path: Path) -> None:
    await decoder.decode(image, tmp_path / "out.npy")
    before = helpers()
    await kill_helper(signal.SIGKILL)
    await decoder.decode(image, tmp_path / "out.npy")
    assert helpers()
    assert not helpers() & before


async def test_time_is_bounded(image: Path, tmp_path: Path) -> None:
    decoder = Decoder(ReadLimits(), processes=1, timeout=0.2)
    os.mkfifo(tmp_path / "trap.tif")
    (tmp_path / "out.npy").write_bytes(b"half an image")
    try:
        with pytest.raises(InvalidInput, match="KIOSK_LIMITS__DECODE_SECONDS") as caught:
            await decoder.decode(tmp_path / "trap.tif", tmp_path / "out.npy")
    finally:
        await decoder.aclose()
    assert caught.value.code == "too-slow"
    assert not helpers()
    assert not (tmp_path / "out.npy").exists()


async def test_a_cancelled_job_ends_its_decoder(decoder: Decoder, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "trap.tif")
    task = asyncio.create_task(decoder.decode(tmp_path / "trap.tif", tmp_path / "out.npy"))
    end = await opened_for_reading(tmp_path / "trap.tif")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    os.close(end)
    assert not helpers()


async def test_memory_is_bounded_by_the_kernel_too(tmp_path: Path) -> None:
    """What a header does not tell: a helper cannot allocate more than its limit."""
    helper = await _Helper.start(ReadLimits(bytes=10_000_000, pixels=1000), 30)
    try:
        limits = Path(f"/proc/{helper._process.pid}/limits").read_text()
    finally:
        await helper.end()
    rows = {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()}
    assert int(rows["Max data size"]) == 10_000_000 + (1 << 30)
    assert int(rows["Max address space"]) < 2_000_000_000
    assert rows["Max core file size"] == "0"


async def test_a_process_that_does_not_start_is_not_the_files_fault(
    decoder: Decoder, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.consumer.reading.decoder.sys.executable", "/bin/false")
    with pytest.raises(Retry, match="did not start"):
        await decoder.decode(image, tmp_path / "out.npy")
    monkeypatch.undo()
    assert (await decoder.decode(image, tmp_path / "out.npy")).shape == (1, 1, 64, 48)


async def test_no_secret_reaches_a_process(
    decoder: Decoder, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIOSK_REDIS__URL", "redis://:secret@host")
    await decoder.decode(image, tmp_path / "out.npy")
    (helper,) = helpers()
    assert b"secret" not in Path(f"/proc/{helper}/environ").read_bytes()


async def test_a_process_is_ready_soon() -> None:
    before = os.times()
    helper = await _Helper.start(ReadLimits(), 30)
    await helper.end()
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < 2.0  # s of processor time; about 0.4 on an idle machine
