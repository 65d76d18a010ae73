"""Nuclei and their cells."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from services.consumer.imaging import cells as module
from services.consumer.imaging.cells import match_nuclei


def draw(*boxes: tuple[int, int, int, int, int]) -> NDArray[np.int32]:
    image = np.zeros((40, 60), np.int32)
    for label, top, left, bottom, right in boxes:
        image[top:bottom, left:right] = label
    return image


def test_nuclei_take_the_numbers_of_their_cells() -> None:
    cells = draw((1, 0, 0, 10, 10), (2, 0, 20, 10, 30), (3, 20, 0, 30, 10))
    nuclei = draw((1, 22, 2, 28, 8), (2, 2, 22, 8, 28))
    assert match_nuclei(cells, nuclei) == 2
    assert np.array_equal(cells, draw((3, 0, 0, 10, 10), (1, 0, 20, 10, 30), (2, 20, 0, 30, 10)))
    assert np.array_equal(nuclei, draw((2, 22, 2, 28, 8), (1, 2, 22, 8, 28)))


def test_a_nucleus_without_a_cell_becomes_one() -> None:
    cells, nuclei = draw((1, 0, 0, 10, 10)), draw((5, 30, 30, 35, 35))
    assert match_nuclei(cells, nuclei) == 1
    assert np.array_equal(cells, draw((2, 0, 0, 10, 10), (1, 30, 30, 35, 35)))
    assert np.array_equal(nuclei, draw((1, 30, 30, 35, 35)))


def test_a_nucleus_that_sticks_out_makes_its_cell_larger_but_takes_nothing_from_others() -> None:
    cells = draw((1, 0, 0, 10, 10), (2, 0, 10, 10, 20))
    nuclei = draw((1, 4, 2, 14, 12))
    assert match_nuclei(cells, nuclei) == 1
    expected = draw((1, 0, 0, 10, 10), (1, 10, 2, 14, 12), (2, 0, 10, 10, 20))
    assert np.array_equal(cells, expected)
    assert np.array_equal(nuclei, np.where(expected == 1, draw((1, 4, 2, 14, 12)), 0))


def test_nuclei_of_one_cell_are_one() -> None:
    cells, nuclei = draw((1, 0, 0, 20, 20)), draw((1, 2, 2, 8, 8), (2, 12, 12, 18, 18))
    assert match_nuclei(cells, nuclei) == 1
    assert np.array_equal(nuclei, draw((1, 2, 2, 8, 8), (1, 12, 12, 18, 18)))


def test_nothing_on_either_side() -> None:
    cells, nuclei = draw((3, 0, 0, 5, 5)), draw()
    assert match_nuclei(cells, nuclei) == 0
    assert np.array_equal(cells, draw((1, 0, 0, 5, 5)))
    assert match_nuclei(draw(), draw()) == 0
    cells, nuclei = draw(), draw((2, 0, 0, 5, 5))
    assert match_nuclei(cells, nuclei) == 1
    assert np.array_equal(cells, nuclei)


def random_labels(seed: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    rng = np.random.default_rng(seed)
    boxes = [
        [
            (n + 1, t, c, t + h, c + w)
            for n, (t, c, h, w) in enumerate(rng.integers((0, 0, 2, 2), (32, 50, size, size), (12, 4)))
        ]
        for size in (12, 8)
    ]
    return draw(*boxes[0]), draw(*boxes[1])


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_every_nucleus_lies_in_the_cell_of_its_number(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, nuclei = random_labels(seed)
    before = cells > 0
    again = cells.copy(), nuclei.copy()
    count = match_nuclei(cells, nuclei)
    assert np.array_equal(nuclei[nuclei > 0], cells[nuclei > 0])
    assert np.unique(nuclei[nuclei > 0]).tolist() == list(range(1, count + 1))
    present = np.unique(cells[cells > 0])
    assert present.tolist() == list(range(1, present.size + 1))
    assert (cells[before] > 0).all()
    monkeypatch.setattr(module, "STRIP", 180)
    assert match_nuclei(*again) == count
    assert np.array_equal(again[0], cells)
    assert np.array_equal(again[1], nuclei)
