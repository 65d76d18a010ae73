"""Large images pass through in little memory: decoding by strips and tiles, writing by strips."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from services.consumer.reading import Decoder, ReadLimits

ROOT = Path(__file__).parents[3]
#: 162 MB of pixels, 324 MB of labels; the bound is below.
SIDE = 9000
#: Bytes that a process grows by, at most, over what it takes for a small image.
GROWTH = 120_000_000


def peak(pid: int | str) -> int:
    """Return the most bytes that a process had resident."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


@pytest.mark.parametrize("how", [{"tile": (512, 512), "compression": "zlib"}, {"rowsperstrip": 64}])
async def test_decoding(tmp_path: Path, how: dict[str, object]) -> None:
    tile = np.arange(512 * 512, dtype=np.uint16).reshape(512, 512)
    image = np.tile(tile, (18, 18))[:SIDE, :SIDE]
    tifffile.imwrite(tmp_path / "small.tif", tile, **how)  # type: ignore[arg-type]
    tifffile.imwrite(tmp_path / "large.tif", image, **how)  # type: ignore[arg-type]
    decoder = Decoder(ReadLimits(), processes=1)
    try:
        await decoder.decode(tmp_path / "small.tif", tmp_path / "out.npy")
        (helper,) = decoder._idle
        before = peak(helper._process.pid)
        decoded = await decoder.decode(tmp_path / "large.tif", tmp_path / "out.npy")
        assert decoder._idle == [helper]
        assert peak(helper._process.pid) - before < GROWTH
    finally:
        await decoder.aclose()
    assert np.array_equal(decoded.open()[0, 0], image)


WRITE = """
import sys
from pathlib import Path
import numpy as np
from services.consumer.writing import ViewWriter, write_labels, write_preview

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

def view(image, path):
    writer = ViewWriter(path, image.shape)
    writer.image(0, 0, image, np.array([[0, 300]], np.float32))
    writer.labels(0, 0, image)
    writer.close({})

folder = Path(sys.argv[1])
small = np.ones((512, 512), np.int32)
write_labels(folder / "small.tif", small, pixel_size_um=None, description={})
write_preview(small, small, folder / "small.png")
view(small, folder / "small.view")
before = peak()
labels = np.load(folder / "labels.npy", mmap_mode="r")
write_labels(folder / "labels.tif", labels, pixel_size_um=None, description={})
write_preview(labels, labels, folder / "labels.png")
view(labels, folder / "labels.view")
print(peak() - before)
"""


def test_writing(tmp_path: Path) -> None:
    labels = np.lib.format.open_memmap(tmp_path / "labels.npy", "w+", np.int32, (SIDE, SIDE))
    labels[...] = np.arange(SIDE) // 30 + 1
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < GROWTH
