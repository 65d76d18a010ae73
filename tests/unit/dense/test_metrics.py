"""The figures of quality, on label images small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.metrics import Tally, pairwise_iou, without_border


def labels(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    image = np.zeros((20, 40), np.int32)
    for number, (top, bottom, left, right) in enumerate(boxes, start=1):
        image[top:bottom, left:right] = number
    return image


def tally(truth: np.ndarray, guess: np.ndarray, *, drop_border: bool = False) -> Tally:
    result = Tally()
    result.add(truth, guess, drop_border=drop_border)
    return result


def test_the_same_objects_under_other_numbers_are_perfect() -> None:
    truth = labels((2, 8, 2, 8), (2, 8, 20, 30))
    found = tally(truth, np.where(truth > 0, 70 - truth, 0))
    assert (found.f1(0.5), found.f1(0.75), found.average_precision, found.panoptic) == (1, 1, 1, 1)


def test_iou_is_what_is_shared_over_what_is_covered() -> None:
    iou = pairwise_iou(labels((0, 10, 0, 10)), labels((0, 10, 5, 15), (12, 15, 0, 4)))
    np.testing.assert_allclose(iou, [[50 / 150, 0]])


def test_counts_a_split_a_miss_and_an_invention() -> None:
    truth = labels((0, 10, 0, 10), (0, 10, 20, 30))
    guess = labels((0, 10, 0, 6), (0, 10, 6, 10), (12, 18, 30, 36))
    found = tally(truth, guess)
    assert (found.truths, found.guesses, found.hits[0.5], found.hits[0.75]) == (2, 3, 1, 0)
    assert found.f1(0.5) == pytest.approx(2 / 5)
    assert found.panoptic == pytest.approx(2 * 0.6 / 5)
    # one match of four objects in all at 0.5 and 0.55, none from 0.6 on
    assert found.average_precision == pytest.approx((2 / 10) * (1 / 4))


def test_nothing_where_nothing_is_is_perfect_and_anything_there_is_not() -> None:
    empty = labels()
    assert tally(empty, empty).f1(0.5) == 1.0
    assert tally(empty, labels((0, 5, 0, 5))).f1(0.5) == 0.0
    assert tally(labels((0, 5, 0, 5)), empty).panoptic == 0.0


def test_objects_at_the_edge_can_be_left_out() -> None:
    truth, guess = labels((5, 10, 5, 10)), labels((5, 10, 5, 10), (0, 4, 20, 30))
    assert tally(truth, guess).f1(0.5) == pytest.approx(2 / 3)
    assert tally(truth, guess, drop_border=True).f1(0.5) == 1.0
    assert np.unique(without_border(guess)).tolist() == [0, 1]


def test_images_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        tally(labels(), labels()[:5])
