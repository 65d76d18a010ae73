"""The size of objects on an image, and the zoom that follows."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from services.triton.training.nuclei import nuclei_scene
from shared.dense import ModelCard, ObjectMaps
from shared.dense.scale import estimate_zoom, object_diameter, zoom_to

CARD = ModelCard(
    name="Mine",
    channels=("nuclear", "membrane"),
    pixel_size_um=0.5,
    objects=(ObjectMaps("nuclear", foreground=0),),
    licence="MIT",
    origin="made up",
    object_diameter=20.0,
)


def disks(diameter: float, side: int = 400) -> NDArray[np.uint16]:
    """Bright disks on a noisy ground."""
    rng = np.random.default_rng(3)
    image = np.zeros((side, side), np.float32)
    step = int(diameter * 2)
    for y in range(step, side - step // 2, step):
        for x in range(step, side - step // 2, step):
            cv2.circle(image, (x, y), round(diameter / 2), float(rng.uniform(0.6, 1.0)), cv2.FILLED)
    image = cv2.GaussianBlur(image, (0, 0), 1.0) + rng.normal(0, 0.02, image.shape)
    return np.clip(image * 3000 + 200, 0, 65535).astype(np.uint16)


@pytest.mark.parametrize("diameter", [10, 16, 24, 40, 60])
def test_finds_the_diameter_of_disks(diameter: int) -> None:
    # scales lie a third of an octave apart
    assert object_diameter(disks(diameter)) == pytest.approx(diameter, rel=0.25)


def test_grows_with_the_objects() -> None:
    found = [object_diameter(disks(diameter)) for diameter in (10, 14, 20, 28, 40)]
    assert found == sorted(found)


def test_is_right_on_synthetic_nuclei_on_the_whole() -> None:
    """Half of the scenes are within 18 % of the median diameter, nearly all within a factor of 1.5."""
    ratios = []
    for seed in range(40):
        scene = nuclei_scene(np.random.default_rng(seed), 256)
        sizes = np.bincount(scene.labels[0].ravel())[1:]
        if (sizes > 20).sum() >= 5:
            true = float(np.median(2 * np.sqrt(sizes[sizes > 20] / np.pi)))
            ratios.append(object_diameter(scene.channels[0]) / true)
    away = np.abs(np.log(np.maximum(ratios, 1e-3)))
    assert np.median(away) < np.log(1.18)
    assert np.mean(away < np.log(1.5)) > 0.9


@pytest.mark.parametrize("kind", ["uint8", "int16", "float64"])
def test_takes_any_real_dtype(kind: str) -> None:
    plane = (disks(20) // 16).astype(kind)
    assert object_diameter(plane) == pytest.approx(20, rel=0.25)


@pytest.mark.parametrize(
    "plane",
    [
        np.zeros((50, 50), np.uint8),
        np.full((1, 1), 7, np.uint16),
        np.full((20, 20), np.nan, np.float32),
        np.zeros((3, 200), np.float32),
        np.random.default_rng(1).normal(100, 5, (200, 200)),  # noise alone
        np.random.default_rng(1).poisson(3, (200, 200)).astype(np.uint8),
    ],
)
def test_says_nothing_where_there_is_nothing(plane: NDArray[np.generic]) -> None:
    assert object_diameter(plane) == 0.0
    assert estimate_zoom(plane, CARD) == 1.0


def test_the_zoom_looks_at_the_channel_of_the_card() -> None:
    image = np.stack([disks(40), disks(10)], axis=-1)
    first, second = (estimate_zoom(image, dataclasses.replace(CARD, scale_channel=channel)) for channel in (0, 1))
    assert first == pytest.approx(0.5, rel=0.25)
    assert second == pytest.approx(2.0, rel=0.25)
    assert estimate_zoom(image, dataclasses.replace(CARD, object_diameter=0.0)) == 1.0


@pytest.mark.parametrize(
    ("wanted", "found", "zoom"), [(20, 10, 2), (20, 0, 1), (0, 10, 1), (20, 2000, 0.1), (20, 1, 4), (20, 20, 1)]
)
def test_the_zoom_stays_within_bounds(wanted: float, found: float, zoom: float) -> None:
    assert zoom_to(wanted, found) == zoom
