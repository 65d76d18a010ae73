"""Label files and zips, read back by other programs' libraries."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from services.consumer.writing import write_labels, write_zip


def blobs(shape: tuple[int, ...]) -> NDArray[np.int32]:
    y, x = np.indices(shape[-2:])
    labels = ((y // 7) * 1000 + x // 9).astype(np.int32)
    return np.broadcast_to(labels, shape).copy()


@pytest.mark.parametrize("shape", [(64, 48), (1, 1), (700, 900), (3, 64, 48), (4, 300, 500)])
def test_labels_come_back_with_axes_and_pixel_size(tmp_path: Path, shape: tuple[int, ...]) -> None:
    labels = blobs(shape)
    write_labels(tmp_path / "a.tif", labels, pixel_size_um=0.65, description={"model": "x:1"})
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        found = file.series[0].asarray()
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        assert not page.is_tiled
        assert page.tags["ResolutionUnit"].value == 3
        assert page.tags["XResolution"].value[0] / page.tags["XResolution"].value[1] == pytest.approx(1e4 / 0.65)
        assert len(file.pages) == (shape[0] if len(shape) == 3 else 1)
        root = ElementTree.fromstring(file.ome_metadata or "")
    assert found.dtype == np.int32
    assert np.array_equal(found.reshape(shape), labels)
    pixels = next(element for element in root.iter() if element.tag.endswith("Pixels"))
    assert (pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit")) == ("0.65", "µm")
    description = next(element for element in root.iter() if element.tag.endswith("Description"))
    assert json.loads(description.text or "") == {"model": "x:1"}


def test_a_mapped_file_of_labels_is_read_and_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.consumer.writing.labels._KEPT", 1 << 20)
    expected = blobs((1100, 1300))
    labels = np.lib.format.open_memmap(tmp_path / "l.npy", "w+", np.int32, expected.shape)
    labels[...] = expected
    write_labels(tmp_path / "a.tif", labels, pixel_size_um=None, description={})
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), expected)
    assert np.array_equal(labels, expected)


def test_other_integers_become_int32(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.tif", blobs((30, 40)).astype(np.uint16), pixel_size_um=None, description={})
    assert tifffile.imread(tmp_path / "a.tif").dtype == np.int32


def entries(folder: Path) -> list[tuple[str, Path]]:
    (folder / "z.tif").write_bytes(b"II" * 5000)
    (folder / "a.csv").write_text("x,y\n" * 5000)
    return [("z.tif", folder / "z.tif"), ("sub/ä.csv", folder / "a.csv")]


def test_a_zip_keeps_the_order_and_can_be_read_as_a_stream(tmp_path: Path) -> None:
    write_zip(tmp_path / "r.zip", entries(tmp_path))
    with zipfile.ZipFile(tmp_path / "r.zip") as archive:
        first, second = archive.infolist()
        assert archive.testzip() is None
        assert archive.read("sub/ä.csv").startswith(b"x,y\n")
    assert (first.filename, first.compress_type) == ("z.tif", zipfile.ZIP_STORED)
    assert (second.filename, second.compress_type) == ("sub/ä.csv", zipfile.ZIP_DEFLATED)
    # Bit 3: sizes behind the data, which Java's stream of a stored entry cannot find.
    assert not (first.flag_bits | second.flag_bits) & 0x8


def test_a_zip_is_the_same_every_time(tmp_path: Path) -> None:
    write_zip(tmp_path / "one.zip", entries(tmp_path))
    write_zip(tmp_path / "other.zip", entries(tmp_path))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()


@pytest.mark.parametrize("name", ["/a.tif", "../a.tif", "b/../../a.tif", "b\\a.tif", ""])
def test_a_zip_takes_no_path_that_leaves_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        write_zip(tmp_path / "r.zip", [(name, entries(tmp_path)[0][1])])


def test_a_zip_takes_a_name_once(tmp_path: Path) -> None:
    one = entries(tmp_path)[0]
    with pytest.raises(ValueError, match="twice"):
        write_zip(tmp_path / "r.zip", [one, one])
