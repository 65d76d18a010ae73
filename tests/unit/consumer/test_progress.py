"""People see how far one large plane has come, not only how many planes are done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from services.consumer.dense import Segmenter
from services.consumer.tools import Progress, Tools
from shared.dense import ModelCard, ObjectMaps

CARD = ModelCard("one", ("nuclear",), 0.5, (ObjectMaps("nuclear", 0),), "", "", block=256, halo=16)


class Hands:
    """Just enough of a job's tools; finds nothing on any block."""

    def __init__(self) -> None:
        self.told: list[int] = []

    async def compute(self, function: Callable[..., Any], *arguments: Any, stage: str = "") -> Any:
        return function(*arguments)

    def labels(self, shape: tuple[int, int], _name: str) -> NDArray[np.int32]:
        return np.zeros(shape, np.int32)

    async def predict(self, _card: ModelCard, block: NDArray[Any], *_words: Any) -> NDArray[np.uint8]:
        return np.zeros((1, *block.shape[:2]), np.uint8)

    async def tell(self, _state: str, progress: int) -> None:
        self.told.append(progress)


@pytest.mark.parametrize(("side", "least"), [(600, 9), (200, 1)])
async def test_each_block_is_told(side: int, least: int) -> None:
    hands = Hands()
    tools = cast("Tools", hands)
    progress = Progress(tools, planes=2)
    for _ in range(2):
        await Segmenter(CARD, (0,), 1.0).plane(tools, np.zeros((1, side, side), np.uint16), progress=progress)
    assert len(hands.told) >= 2 * least
    assert hands.told == sorted(hands.told)
    assert (hands.told[len(hands.told) // 2 - 1], hands.told[-1]) == (50, 90)
