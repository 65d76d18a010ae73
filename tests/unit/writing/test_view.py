"""The small picture of a result, and the file of tiles behind the page's viewer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.consumer.writing import ViewWriter, write_preview
from tests.fixtures.view import ViewFile

FULL = np.array([[0, 255]], np.float32)


def blobs(shape: tuple[int, int]) -> NDArray[np.int32]:
    y, x = np.indices(shape)
    return ((y // 7) * 1000 + x // 9).astype(np.int32)


def written(folder: Path, image: NDArray[Any], labels: NDArray[Any], window: NDArray[np.float32] = FULL) -> ViewFile:
    shape = image.shape
    assert len(shape) == 2
    writer = ViewWriter(folder / "a.view", shape)
    writer.image(0, 0, image, window)
    writer.labels(0, 0, labels)
    writer.close({})
    return ViewFile((folder / "a.view").read_bytes())


@pytest.mark.parametrize("shape", [(1, 1), (64, 48), (512, 512), (513, 1), (700, 1300), (1600, 90), (1025, 1025)])
def test_pixels_come_back_in_every_size(tmp_path: Path, shape: tuple[int, int]) -> None:
    image = (np.indices(shape).sum(axis=0) % 250).astype(np.uint8)
    labels = blobs(shape)
    view = written(tmp_path, image, labels)
    assert np.array_equal(view.image(0, 0), image)
    assert np.array_equal(view.labels(0, 0), labels)
    levels = view.manifest["labels"]["0/0"]["levels"]
    assert max(levels[-1]["height"], levels[-1]["width"]) <= 256
    for level in range(1, len(levels)):
        assert np.array_equal(view.labels(0, 0, level), labels[:: 2**level, :: 2**level])
        small = view.image(0, 0, level)
        assert small.shape == view.labels(0, 0, level).shape
        assert image.min() <= small.min() <= small.max() <= image.max()
    assert all(level["height"] > 256 or level["width"] > 256 for level in levels[:-1])


def test_a_reduced_image_is_the_mean(tmp_path: Path) -> None:
    image = np.zeros((300, 300), np.uint8)
    image[:150] = 200
    image[::2, ::2] += 40
    small = written(tmp_path, image, np.zeros((300, 300), np.int32)).image(0, 0, 1)
    assert (set(small[:75].ravel().tolist()), set(small[75:].ravel().tolist())) == ({210}, {10})


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4", "f8", "f2"])
def test_the_window_becomes_the_greys(tmp_path: Path, dtype: str) -> None:
    image = np.tile(np.arange(0, 250, dtype=dtype), (300, 2))
    grey = written(tmp_path, image, np.zeros(image.shape, np.int32), np.array([[50, 150]], np.float32)).image(0, 0)
    assert (grey[0, 50], grey[0, 100], grey[0, 150], grey[0, 249]) == (0, 128, 255, 255)


def test_numbers_above_sixteen_bits(tmp_path: Path) -> None:
    labels = blobs((64, 48)) + 70_000 * (blobs((64, 48)) > 0)
    view = written(tmp_path, np.zeros((64, 48), np.uint8), labels)
    assert view.manifest["labels"]["0/0"]["type"] == "u4"
    assert np.array_equal(view.labels(0, 0), labels)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 1300), st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_cells_are_measured_across_bands(rows: int, columns: int, seed: int) -> None:
    import tempfile

    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 9, (-(-rows // 90), -(-columns // 30))), np.ones((90, 30))).astype(np.int32)
    labels = labels[:rows, :columns]
    with tempfile.TemporaryDirectory() as folder:
        cells = written(Path(folder), np.zeros(labels.shape, np.uint8), labels).cells(0, 0)
    assert cells["id"].tolist() == sorted(set(labels.ravel().tolist()) - {0})
    for place, number in enumerate(cells["id"].tolist()):
        y, x = np.nonzero(labels == number)
        assert cells["area"][place] == len(y)
        assert (cells["left"][place], cells["right"][place]) == (x.min(), x.max() + 1)
        assert (cells["top"][place], cells["bottom"][place]) == (y.min(), y.max() + 1)
        assert cells["x"][place] == pytest.approx(x.mean(), abs=1e-3)
        assert cells["y"][place] == pytest.approx(y.mean(), abs=1e-3)


def test_planes_from_several_threads_points_and_tracks(tmp_path: Path) -> None:
    writer = ViewWriter(tmp_path / "a.view", (600, 70))
    with ThreadPoolExecutor(4) as pool:
        for plane in range(20):
            pool.submit(writer.labels, plane, 0, np.full((600, 70), plane + 1, np.int32))
            pool.submit(writer.image, plane, 0, np.full((600, 70), plane, np.uint8), FULL)
    writer.points(3, np.array([[1.5, 2.25], [30, 4]]), np.array([7, 0], np.int32))
    writer.points(4, np.zeros((0, 2)), None)
    daughter = {"label": 2, "frames": [4, 5], "daughters": [], "parent": 1, "frame_div": None, "capped": False}
    writer.tracks({"1": {**daughter, "label": 1, "frames": [0, 1, 2, 3], "parent": None}, "2": daughter})
    writer.close({"axis": "T"})
    view = ViewFile((tmp_path / "a.view").read_bytes())
    assert view.manifest["axis"] == "T"
    for plane in range(20):
        assert (view.labels(plane, 0) == plane + 1).all()
        assert (view.image(plane, 0) == plane).all()
    positions, inside = view.points(3)
    assert positions.tolist() == [[2.25, 1.5], [4, 30]]
    assert inside.tolist() == [7, 0]
    assert view.manifest["points"]["4"]["assigned"] is False
    assert view.tracks() == [[1, 0, 3, 0], [2, 4, 5, 1]]


# -- the small picture --


def picture(folder: Path, image: NDArray[Any], labels: NDArray[Any] | None, limit: int = 480) -> NDArray[np.uint8]:
    write_preview(image, labels, folder / "a.png", limit)
    return np.asarray(imagecodecs.png_decode((folder / "a.png").read_bytes()))


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "u4", "f4", "f8", "f2"])
def test_a_small_preview_is_the_image_stretched(tmp_path: Path, dtype: str) -> None:
    image = (np.arange(64 * 48).reshape(64, 48) % 250).astype(dtype)
    rgb = picture(tmp_path, image, None)
    assert rgb.shape == (64, 48, 3)
    assert (rgb.min(), rgb.max()) == (0, 255)
    assert (rgb[..., 0] == rgb[..., 2]).all()


@pytest.mark.parametrize("shape", [(500, 300), (333, 4001), (4001, 3), (1000, 100)])
def test_a_large_preview_is_reduced_and_its_outlines_lie_on_it(tmp_path: Path, shape: tuple[int, int]) -> None:
    labels = np.zeros(shape, np.int32)
    labels[: shape[0] // 2] = 1
    image = (blobs(shape) % 2 * 1000 + 5000 * labels).astype(np.uint16)
    rgb = picture(tmp_path, image, labels, limit=200)
    assert max(rgb.shape[:2]) == 200
    drawn = rgb[..., 0] != rgb[..., 2]
    middle = rgb.shape[0] // 2
    assert drawn[max(0, middle - 2) : middle + 1].any()
    assert not drawn[middle + 1 :].any()
    assert rgb[middle + 1 :].max() < 64


def test_previews_of_nothing_much(tmp_path: Path) -> None:
    assert picture(tmp_path, np.full((5, 5), 7, np.uint16), None).max() == 0
    broken = np.full((5, 5), np.nan, np.float32)
    broken[0, 0] = np.inf
    assert picture(tmp_path, broken, None).shape == (5, 5, 3)
    assert picture(tmp_path, np.zeros((1, 1), np.uint8), np.ones((1, 1), np.int32)).shape == (1, 1, 3)
