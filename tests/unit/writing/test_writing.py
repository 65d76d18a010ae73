"""Label files, zips and previews, read back by other programs' libraries."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from services.consumer.writing import write_labels, write_preview, write_zip


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


def unpack(path: Path | None) -> NDArray[Any]:
    assert path is not None
    return np.asarray(imagecodecs.png_decode(path.read_bytes()))


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "u4", "f4", "f8", "f2"])
def test_a_small_preview_is_the_image_stretched(tmp_path: Path, dtype: str) -> None:
    image = (np.arange(64 * 48).reshape(64, 48) % 250).astype(dtype)
    labels = blobs((64, 48)) + 70_000 * (blobs((64, 48)) > 0)
    picture, coloured = write_preview(image, labels, tmp_path)
    grey, rgb = unpack(picture), unpack(coloured).astype(np.int64)
    assert grey.dtype == np.uint8
    assert grey.shape == image.shape
    assert (grey.min(), grey.max()) == (0, 255)
    assert np.array_equal(rgb @ [1, 256, 65536], labels)


@pytest.mark.parametrize("shape", [(500, 300), (333, 4001), (4001, 3), (1000, 100)])
def test_a_large_preview_is_reduced_and_its_labels_lie_on_it(tmp_path: Path, shape: tuple[int, int]) -> None:
    labels = blobs(shape)
    image = (labels % 2 * 1000).astype(np.uint16)
    image[: shape[0] // 2] += 5000
    picture, coloured = write_preview(image, labels, tmp_path, limit=200)
    grey, rgb = unpack(picture), unpack(coloured)
    assert grey.shape == rgb.shape[:2]
    assert max(grey.shape) == 200
    assert set(np.unique(rgb.astype(np.int64) @ [1, 256, 65536])) <= set(np.unique(labels))
    middle = grey.shape[0] // 2
    assert grey[: middle - 1].min() > grey[middle + 1 :].max()


def test_previews_of_nothing_much(tmp_path: Path) -> None:
    constant, _ = write_preview(np.full((5, 5), 7, np.uint16), None, tmp_path)
    assert unpack(constant).max() == 0
    broken = np.full((5, 5), np.nan, np.float32)
    broken[0, 0] = np.inf
    assert unpack(write_preview(broken, None, tmp_path)[0]).shape == (5, 5)
    assert unpack(write_preview(np.zeros((1, 1), np.uint8), None, tmp_path)[0]).shape == (1, 1)
