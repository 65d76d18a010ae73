"""Spots of known place, width and height."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from services.consumer.imaging import spots
from services.consumer.imaging.spots import SpotParams, assign_to_cells, detect_spots


def image_of(
    places: NDArray[np.float64], shape: tuple[int, int] = (200, 260), *, sigma: float = 1.5, height: float = 400.0
) -> NDArray[np.float64]:
    y, x = np.indices(shape)
    image = np.zeros(shape)
    for place in places:
        image += height * np.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / (2 * sigma**2))
    return image


def grid(rng: np.random.Generator) -> NDArray[np.float64]:
    y, x = np.meshgrid(np.arange(15, 190, 12.0), np.arange(15, 250, 12.0), indexing="ij")
    places = np.stack([y.ravel(), x.ravel()], axis=1)
    return places + rng.uniform(-2, 2, places.shape)


@pytest.mark.parametrize("dtype", ["u2", "f4", "f8", "i4"])
def test_spots_in_noise_are_found_where_they_are(dtype: str) -> None:
    rng = np.random.default_rng(0)
    places = grid(rng)
    image = (image_of(places) + rng.normal(1000, 20, (200, 260))).astype(dtype)
    found = detect_spots(image)
    distance, _ = cKDTree(found.positions).query(places)
    assert len(found.positions) == len(places)
    assert np.median(distance) < 0.15
    assert distance.max() < 0.6
    assert found.intensities.shape == (len(places),)
    assert np.median(found.intensities) == pytest.approx(200, rel=0.1)


def test_a_bright_slope_is_no_spot() -> None:
    rng = np.random.default_rng(0)
    slope = np.linspace(0, 20000, 260)[np.newaxis] + rng.normal(1000, 20, (200, 260))
    assert len(detect_spots(slope, SpotParams(threshold=8)).positions) == 0


def test_noise_alone_and_constant_images_have_next_to_no_spots() -> None:
    noise = np.random.default_rng(0).normal(100, 10, (500, 500))
    assert len(detect_spots(noise).positions) <= 1
    assert len(detect_spots(np.full((50, 50), 7, np.uint16)).positions) == 0
    assert len(detect_spots(np.zeros((1, 1), np.uint8)).positions) == 0
    assert len(detect_spots(np.zeros((0, 5), np.uint8)).positions) == 0
    assert len(detect_spots(np.full((9, 9), np.nan)).positions) == 0


def test_one_flat_spot_counts_once() -> None:
    image = np.zeros((40, 40), np.uint16)
    image[10:12, 20:22] = 500
    found = detect_spots(image)
    assert found.positions.tolist() == pytest.approx(np.array([[10.5, 20.5]]), abs=0.51)


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    image = image_of(grid(rng)) + rng.normal(1000, 20, (200, 260))
    whole = detect_spots(image)
    monkeypatch.setattr(spots, "STRIP", 260 * 13)
    parts = detect_spots(image)
    # Only the noise is measured on a sample.
    assert len(parts.positions) == len(whole.positions)
    assert np.allclose(parts.positions, whole.positions, atol=1e-6)


def test_spots_are_given_to_cells() -> None:
    labels = np.zeros((10, 12), np.int32)
    labels[2:5, 3:6] = 4
    positions = np.array([[2.0, 3.0], [4.4, 5.4], [4.6, 5.0], [0.0, 0.0], [-1.0, 3.0], [3.0, 99.0]])
    assert assign_to_cells(positions, labels).tolist() == [4, 4, 0, 0, 0, 0]
    assert assign_to_cells(np.zeros((0, 2)), labels).tolist() == []
