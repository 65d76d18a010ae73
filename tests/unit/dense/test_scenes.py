"""The generators of training images: what they promise of their truth."""

from __future__ import annotations

import numpy as np
import pytest

from services.triton.training.scenes import GENERATORS
from services.triton.training.targets import border_weight, inner_distance

SIDE = 128


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_the_same_seed_makes_the_same_scene(name: str) -> None:
    one, other = (GENERATORS[name](np.random.default_rng(5), SIDE) for _ in range(2))
    assert np.array_equal(one.channels, other.channels)
    assert np.array_equal(one.labels, other.labels)


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_objects_are_brighter_than_what_is_around_them(name: str) -> None:
    brighter = []
    for seed in range(12):
        scene = GENERATORS[name](np.random.default_rng(seed), SIDE)
        assert scene.channels.shape[1:] == scene.labels.shape[1:] == (SIDE, SIDE)
        assert np.isfinite(scene.channels).all()
        front = scene.labels[-1] > 0
        if front.any():
            brighter.append(scene.channels[0][front].mean() > scene.channels[0][~front].mean())
    assert np.mean(brighter) > 0.9


def test_a_nucleus_lies_within_its_own_cell() -> None:
    found = 0
    for seed in range(6):
        cells, nuclei = GENERATORS["WholeCellSegmentation"](np.random.default_rng(seed), SIDE).labels
        inside = nuclei > 0
        found += int(inside.sum())
        # a bent border may cut off a scrap of a nucleus that touches another
        assert (cells[inside] == nuclei[inside]).sum() >= 0.97 * inside.sum()
    assert found


def test_the_inner_distance_has_one_peak_of_about_one_in_each_object() -> None:
    labels = np.zeros((40, 60), np.int32)
    labels[5:25, 5:25], labels[5:25, 25:50] = 1, 2
    depth = inner_distance(labels)
    assert not depth[labels == 0].any()
    for number in (1, 2):
        assert 0.8 < depth[labels == number].max() <= 1.0
    assert depth[15, 24] < 0.2, "there is a valley between the two"


def test_pixels_between_touching_objects_weigh_most() -> None:
    labels = np.zeros((40, 60), np.int32)
    labels[5:25, 5:25], labels[5:25, 25:50] = 1, 2
    weight = border_weight(labels)
    assert weight[15, 24] == pytest.approx(weight.max(), rel=0.05)
    assert weight[15, 24] > 2.5
    assert weight[35, 55] == pytest.approx(1.0)
