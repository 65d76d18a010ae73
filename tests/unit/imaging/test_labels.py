"""Renumbering, removing and measuring labels."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import regionprops

from services.consumer.imaging.labels import relabel, remove_small, statistics


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32, np.int64])
def test_relabel_keeps_the_order(dtype: type) -> None:
    labels = np.array([[0, 7, 7], [3, 0, 100]], dtype)
    out = relabel(labels)
    assert out.dtype == np.int32
    assert out.tolist() == [[0, 2, 2], [1, 0, 3]]


def test_relabel_of_huge_numbers() -> None:
    labels = np.array([[0, 4_000_000_000], [5, 4_000_000_000]], np.uint32)
    assert relabel(labels).tolist() == [[0, 2], [1, 2]]
    assert relabel(np.zeros((0, 3), np.uint8)).shape == (0, 3)


def test_remove_small() -> None:
    labels = np.array([[1, 1, 2], [3, 3, 3]], np.int32)
    assert remove_small(labels, 2).tolist() == [[1, 1, 0], [2, 2, 2]]
    assert remove_small(labels, 0).tolist() == labels.tolist()


def test_statistics_are_those_of_scikit_image() -> None:
    rng = np.random.default_rng(4)
    labels = np.repeat(np.repeat(rng.integers(0, 30, (12, 15)), 3, 0), 4, 1).astype(np.int32)
    labels[labels == 11] = 0
    ours = statistics(labels)
    theirs = regionprops(labels)
    assert ours.labels.tolist() == [r.label for r in theirs]
    assert ours.areas.tolist() == [r.area for r in theirs]
    np.testing.assert_allclose(ours.centroids, [r.centroid for r in theirs])
    np.testing.assert_array_equal(ours.boxes, [r.bbox for r in theirs])


def test_statistics_of_nothing() -> None:
    ours = statistics(np.zeros((4, 4), np.int32))
    assert ours.labels.size == ours.areas.size == ours.centroids.size == 0
