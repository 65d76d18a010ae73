"""The watershed against scikit-image's, and its edge cases."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.measure import label
from skimage.morphology import h_maxima, local_maxima, reconstruction
from skimage.segmentation import watershed as flood

from services.consumer.imaging.basins import label_basins
from services.consumer.imaging.watershed import WatershedParams, fill_holes, watershed


def discs(shape: tuple[int, int], centres: list[tuple[float, float]], radius: float) -> NDArray[np.uint8]:
    """An inner-distance map of discs, which may touch."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    best = np.zeros(shape)
    for cy, cx in centres:
        best = np.maximum(best, 1 - np.hypot(y - cy, x - cx) / radius)
    return np.where(best > 0, np.round(1 + 254 * best), 0).astype(np.uint8)


def bumpy(seed: int, shape: tuple[int, int] = (150, 170)) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """A smooth random height map without equal neighbours, and the mask of where it is high."""
    noise = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    height = (smooth * 65000).astype(np.uint16)
    return height, height > 30000


def same_objects(ours: NDArray[np.int32], theirs: NDArray[np.int32]) -> float:
    """Share of pixels on which two labelings agree, objects paired by their largest overlap."""
    pairs, counts = np.unique(np.stack([ours.ravel(), theirs.ravel()]), axis=1, return_counts=True)
    best: dict[int, int] = {}
    for one, count in zip(pairs[0], counts, strict=True):
        best[one] = max(best.get(one, 0), count)
    return sum(best.values()) / ours.size


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("h", [500, 3000, 12000])
def test_same_labels_as_h_maxima_and_flooding(seed: int, h: int) -> None:
    height, mask = bumpy(seed)
    height[~mask] = 0
    ours = label_basins(height, mask, h)
    markers = label(h_maxima(height, h), connectivity=2)
    theirs = flood(-height.astype(np.int32), markers, mask=mask, connectivity=2)
    assert ours.max() == theirs.max()
    assert same_objects(ours, theirs) > 0.9995
    assert same_objects(theirs, ours) > 0.9995


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.integers(1, 6), st.integers(1, 4))
def test_any_map_gives_whole_sequential_labels(seed: int, rows: int, columns: int, levels: int, h: int) -> None:
    rng = np.random.default_rng(seed)
    # Even heights and an odd h: no hill is exactly as high as h.
    height = 2 * rng.integers(0, levels, (rows, columns)).astype(np.uint16)
    h = 2 * h - 1
    mask = rng.random((rows, columns)) < 0.7
    labels = label_basins(height, mask, h)
    assert not labels[~mask].any()
    assert set(np.unique(labels)) - {0} == set(range(1, labels.max() + 1))
    for value in range(1, labels.max() + 1):
        assert label(labels == value, connectivity=2).max() == 1
    assert labels.max() == count_h_maxima(np.pad(height * mask, 1).astype(int), h)


def count_h_maxima(height: NDArray[np.int64], h: int) -> int:
    """By definition: regional maxima of the reconstruction of ``height - h`` under ``height``."""
    levelled = reconstruction(np.maximum(height - h, 0), height).astype(int)
    return int(label(local_maxima(levelled) & (levelled > 0), connectivity=2).max())


def test_touching_discs_come_apart() -> None:
    distance = discs((80, 120), [(40, 40), (40, 72)], 20)
    labels = watershed(distance, WatershedParams(), distance.shape)
    assert labels.dtype == np.int32
    assert labels.max() == 2
    assert labels[40, 40] != labels[40, 72]
    assert np.array_equal(labels > 0, distance > 0)


@pytest.mark.parametrize("shape", [(160, 240), (40, 60), (73, 131), (80, 120)])
def test_labels_come_at_the_images_own_size(shape: tuple[int, int]) -> None:
    distance = discs((80, 120), [(20, 20), (40, 40), (40, 72), (70, 110)], 18)
    labels = watershed(distance, WatershedParams(), shape)
    assert labels.shape == shape
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4}
    share = np.count_nonzero(labels) / labels.size
    assert share == pytest.approx(np.count_nonzero(distance) / distance.size, rel=0.04)


def test_small_objects_go_and_small_holes_close() -> None:
    distance = discs((80, 80), [(40, 40)], 30)
    distance[40, 30:33] = 0
    distance[5, 5] = 200
    labels = watershed(distance, WatershedParams(smoothing=0, min_size=15, max_hole=4), distance.shape)
    assert labels.max() == 1
    assert labels[5, 5] == 0
    assert labels[40, 31] == 1
    kept = watershed(distance, WatershedParams(smoothing=0, min_size=1, max_hole=2), distance.shape)
    assert kept.max() == 2
    assert kept[40, 31] == 0


def test_a_gap_between_cells_is_no_hole() -> None:
    distance = discs((90, 90), [(30, 30), (30, 60), (60, 30), (60, 60)], 16)
    distance[38:53, 43:48] = distance[43:48, 38:53] = 3
    distance[43:47, 43:47] = 0
    labels = watershed(distance, WatershedParams(smoothing=0, max_hole=50), distance.shape)
    assert labels.max() == 4
    assert not labels[44:46, 44:46].any()


def test_a_hole_at_the_edge_stays() -> None:
    mask = np.ones((5, 5), bool)
    mask[0, 2] = mask[3, 2] = False
    inside, hole = fill_holes(mask, 1)
    assert inside.tolist() == [17]
    assert hole.tolist() == [1]
    assert not mask[0, 2]


def test_nothing_and_everything() -> None:
    params = WatershedParams(min_size=0)
    assert watershed(np.zeros((9, 9), np.uint8), params, (18, 18)).max() == 0
    assert (watershed(np.full((9, 9), 255, np.uint8), params, (9, 9)) == 1).all()
    assert watershed(np.full((1, 1), 255, np.uint8), params, (1, 1)).tolist() == [[1]]
    assert watershed(np.zeros((0, 4), np.uint8), params, (0, 4)).shape == (0, 4)


def test_many_touching_cells() -> None:
    """65,536 cells without a gap: every one is found."""
    tile = discs((8, 8), [(3.5, 3.5)], 6)
    distance = np.tile(np.maximum(tile, 1), (256, 256))
    labels = watershed(distance, WatershedParams(smoothing=0, h=0.1, min_size=4), distance.shape)
    assert labels.max() == 65_536
    assert labels.all()
    assert np.bincount(labels.ravel())[1:].min() > 30


def test_more_touching_objects_than_16_bits_can_count() -> None:
    hill = np.array([[60, 90, 90, 60], [90, 200, 180, 90], [90, 180, 170, 90], [60, 90, 90, 60]], np.uint8)
    side = 257
    params = WatershedParams(smoothing=0, h=0.05, min_size=1, max_hole=0)
    labels = watershed(np.tile(hill, (side, side)), params, (4 * side, 4 * side))
    truth = np.arange(1, side**2 + 1).reshape(side, side).repeat(4, 0).repeat(4, 1)
    assert side**2 > 65535
    assert labels.max() == side**2
    assert len(np.unique(labels.astype(np.int64) << 32 | truth)) == side**2
