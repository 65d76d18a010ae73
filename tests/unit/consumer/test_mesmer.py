"""Which models can label whole cells and nuclei."""

from __future__ import annotations

import pytest

from services.consumer.pipelines.mesmer import MesmerOptions, _two_channels
from shared.dense import ModelCard
from shared.dense.card import ObjectMaps
from shared.errors import InvalidInput


def card(*kinds: str, channels: int = 2) -> ModelCard:
    objects = tuple(ObjectMaps(kind, number) for number, kind in enumerate(kinds))
    return ModelCard("m", ("nuclei", "membranes")[:channels], 0.5, objects, "MIT", "here")


def test_a_model_of_both_kinds_will_do() -> None:
    assert _two_channels(MesmerOptions(), 2, card("nuclear", "whole-cell")) == (0, 1)
    assert _two_channels(MesmerOptions(), 2, card("whole-cell", "nuclear", "other")) == (0, 1)


@pytest.mark.parametrize(
    "wrong", [card("nuclear"), card("cells"), card("cells", "nuclear"), card("nuclear", "whole-cell", channels=1)]
)
def test_others_are_refused(wrong: ModelCard) -> None:
    with pytest.raises(InvalidInput, match="does not give whole cells and nuclei") as refused:
        _two_channels(MesmerOptions(), 2, wrong)
    assert refused.value.code == "does-not-fit-model"
