"""Answers of a model server that are not what was asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from services.consumer.inference.shared import Loan
from services.consumer.inference.triton import maps_of, seconds_of
from shared.errors import InvalidInput


class Answer:
    """What a model answered, by the names of its outputs."""

    def __init__(self, **outputs: NDArray[Any]) -> None:
        self.outputs = outputs

    def as_numpy(self, name: str) -> NDArray[Any] | None:
        return self.outputs.get(name)

    def get_output(self, name: str) -> Any:
        found = self.outputs.get(name)
        return found if found is None else SimpleNamespace(datatype=found.dtype.name.upper(), shape=found.shape)


class Region:
    """Where an answer lies that did not come through the socket."""

    room = 24

    def read(self, shape: list[int]) -> NDArray[np.uint8]:
        return np.zeros(shape, np.uint8)


async def test_maps_are_taken_as_they_are() -> None:
    maps = np.arange(24, dtype=np.uint8).reshape(1, 2, 3, 4)
    for kinds in (0, 2):
        assert np.array_equal(await maps_of(Answer(maps=maps), None, "m", kinds), maps[0])
        assert (await maps_of(Answer(maps=maps), cast("Loan", Region()), "m", kinds)).shape == (2, 3, 4)


async def test_no_more_is_read_than_there_is_room_for() -> None:
    with pytest.raises(InvalidInput, match="more than it said"):
        await maps_of(Answer(maps=np.zeros((1, 1, 5, 5), np.uint8)), cast("Loan", Region()), "m", 1)


@pytest.mark.parametrize(
    ("outputs", "kinds"),
    [
        ({}, 1),
        ({"maps": np.zeros((1, 2, 3, 4), np.uint8)}, 1),
        ({"maps": np.zeros((1, 1, 3, 4), np.float32)}, 1),
        ({"maps": np.zeros((2, 1, 3, 4), np.uint8)}, 1),
        ({"maps": np.zeros((3, 4), np.uint8)}, 0),
        ({"maps": np.zeros((1, 0, 3, 4), np.uint8)}, 0),
        ({"maps": np.zeros((1, 1, 0, 4), np.uint8)}, 1),
    ],
)
async def test_other_answers_are_the_models_fault(outputs: dict[str, Any], kinds: int) -> None:
    for loan in (None, cast("Loan", Region())):
        with pytest.raises(InvalidInput, match="The model m answers") as refused:
            await maps_of(Answer(**outputs), loan, "m", kinds)
        assert refused.value.code == "does-not-fit-model"


@pytest.mark.parametrize("told", [np.nan, np.inf, -1.0, [1.0, 2.0], []])
def test_seconds_that_are_none_are_measured_instead(told: object) -> None:
    assert seconds_of(Answer(seconds=np.array(told, np.float32)), 3.0) == 3.0
    assert seconds_of(Answer(), 3.0) == 3.0
    assert seconds_of(Answer(seconds=np.array([[0.5]], np.float32)), 3.0) == 0.5
