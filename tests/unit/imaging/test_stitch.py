"""Blocks and the joining of labels across their borders."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.measure import label

from services.consumer.imaging.stitch import Stitcher, blocks


def scene(shape: tuple[int, int], count: int, seed: int) -> NDArray[np.int32]:
    """Separate discs of different sizes at random places, labelled."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    mask = np.zeros(shape, bool)
    for cy, cx, radius in zip(
        rng.uniform(0, shape[0], count), rng.uniform(0, shape[1], count), rng.uniform(3, 18, count), strict=True
    ):
        near = (y - cy) ** 2 + (x - cx) ** 2
        if not mask[near < (radius + 3) ** 2].any():
            mask |= near < radius**2
    return np.asarray(label(mask, connectivity=1), np.int32)


def equal_up_to_numbers(one: NDArray[np.int32], other: NDArray[np.int32]) -> bool:
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return bool(len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1])


@pytest.mark.parametrize("shape", [(300, 420), (64, 64), (65, 64), (1, 500), (500, 1)])
def test_blocks_cover_a_plane_once(shape: tuple[int, int]) -> None:
    seen = np.zeros(shape, int)
    for piece in blocks(shape, 64, 8):
        seen[piece.core] += 1
        assert max(piece.shape) <= 64
        for core, outer, length in zip(piece.core, piece.outer, shape, strict=True):
            assert core.start - outer.start in (8, core.start)
            assert outer.stop - core.stop in (8, length - core.stop)
    assert (seen == 1).all()


def test_a_halo_that_leaves_no_core() -> None:
    with pytest.raises(ValueError, match="leaves no core"):
        list(blocks((100, 100), 16, 8))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("order", ["rows", "random"])
def test_no_seams(seed: int, order: str) -> None:
    truth = scene((300, 420), 150, seed)
    out = np.zeros_like(truth)
    stitcher = Stitcher(out, 12)
    pieces = list(blocks(truth.shape, 96, 12))
    if order == "random":
        random.Random(seed).shuffle(pieces)
    for piece in pieces:
        stitcher.add(piece, np.asarray(label(truth[piece.outer] > 0, connectivity=1), np.int32))
    assert stitcher.finish() == truth.max()
    assert equal_up_to_numbers(out, truth)
    assert not stitcher._strips


def test_an_object_larger_than_blocks_is_one() -> None:
    truth = np.zeros((300, 300), np.int32)
    truth[10:290, 140:160] = truth[140:160, 10:290] = 1
    out = np.zeros_like(truth)
    stitcher = Stitcher(out, 8)
    for piece in blocks(truth.shape, 64, 8):
        stitcher.add(piece, truth[piece.outer])
    assert stitcher.finish() == 1
    np.testing.assert_array_equal(out, truth)


def test_small_objects_are_judged_whole() -> None:
    truth = np.zeros((40, 80), np.int32)
    truth[10:14, 38:42] = 1  # 16 pixels across the seam
    truth[30:32, 30:32] = 2
    out = np.zeros_like(truth)
    stitcher = Stitcher(out, 8, min_size=10)
    for piece in blocks(truth.shape, 56, 8):
        stitcher.add(piece, truth[piece.outer])
    assert stitcher.finish() == 1
    assert np.count_nonzero(out) == 16


def test_two_cells_stay_two_where_one_block_saw_one() -> None:
    out = np.zeros((20, 80), np.int32)
    stitcher = Stitcher(out, 8)
    left, right = blocks(out.shape, 56, 8)
    whole = np.zeros(left.shape, np.int32)
    whole[4:16, 30:] = 1
    halves = np.zeros(right.shape, np.int32)
    halves[4:12, :30] = 1
    halves[12:16, :30] = 2
    stitcher.add(left, whole)
    stitcher.add(right, halves)
    assert stitcher.finish() == 2


def test_labels_must_fit_the_block() -> None:
    piece = next(blocks((100, 100), 64, 8))
    with pytest.raises(ValueError, match="for a block of shape"):
        Stitcher(np.zeros((100, 100), np.int32), 8).add(piece, np.zeros((3, 3), np.int32))


def test_every_pair_of_neighbours_meets() -> None:
    """A label that fills the plane is one, through every seam."""
    out = np.zeros((200, 200), np.int32)
    stitcher = Stitcher(out, 8)
    for piece, _ in zip(blocks(out.shape, 64, 8), itertools.count(), strict=False):
        stitcher.add(piece, np.ones(piece.shape, np.int32))
    assert stitcher.finish() == 1
    assert (out == 1).all()
