"""Model cards: what is accepted, and the sentence for each thing that is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.dense import parse_card, read_card
from shared.errors import Misconfigured

SOUND: dict[str, Any] = {
    "name": "Mine",
    "channels": ["nuclear"],
    "pixel_size_um": 0.5,
    "objects": [{"name": "nuclear", "foreground": 0}],
    "licence": "MIT",
    "origin": "made up",
}
BUNDLED = Path(__file__).resolve().parents[3] / "services" / "triton" / "models"


def text(**changes: Any) -> str:
    return yaml.safe_dump({**SOUND, **changes})


def test_a_card_survives_the_way_as_json() -> None:
    card = parse_card(text(normalisation={"window": "mean-std", "clip": False}, quality={"f1": 0.9}))
    assert parse_card(card.to_json()) == card


@pytest.mark.parametrize("folder", sorted(each.name for each in BUNDLED.iterdir() if each.is_dir()))
def test_bundled_models_have_sound_cards(folder: str) -> None:
    card = read_card(BUNDLED / folder)
    assert card.name == folder
    assert card.licence == "Apache-2.0"
    assert card.quality, "a bundled model says how good it is"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"colour": "red"}, "unknown field colour; known are: name"),
        ({"tile": 500}, "tile must be a multiple of the field multiple"),
        ({"tile": "big"}, "tile must be a whole number, not 'big'"),
        ({"batch": True}, "batch must be a whole number, not True"),
        ({"pixel_size_um": 0}, "pixel_size_um must be above 0"),
        ({"pixel_size_um": float("nan")}, "pixel_size_um must be a number"),
        ({"channels": []}, "channels must be a list with at least one entry"),
        ({"channels": "nuclear"}, "channels must be a list"),
        ({"objects": [{"name": "x"}]}, "lacks the field foreground"),
        ({"activation": "relu"}, "activation is 'relu'; allowed are: none, sigmoid, softmax"),
        ({"overlap": 0.9}, "overlap must lie between 0 and 0.5"),
        ({"scale_channel": 1}, "scale_channel must name one of the channels"),
        ({"normalisation": {"low": 99.9}}, "low must be below high"),
        ({"normalisation": {"gamma": 0.5, "clip": False}}, "gamma other than 1 needs clip"),
        ({"postprocessing": {"foreground": 2}}, "foreground must lie between 0 and 1"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        parse_card(text(**changes), "models/Mine/card.yaml")
    assert sentence in str(caught.value)
    assert "models/Mine/card.yaml" in str(caught.value)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(Misconfigured, match="lacks the field licence"):
        parse_card(yaml.safe_dump({k: v for k, v in SOUND.items() if k != "licence"}))


@pytest.mark.parametrize("broken", ["[", "- a\n- b", "just text"])
def test_what_is_no_mapping_is_refused(broken: str) -> None:
    with pytest.raises(Misconfigured, match=r"YAML|must hold fields"):
        parse_card(broken)


def test_a_version_may_have_a_card_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "2").mkdir()
    (tmp_path / "card.yaml").write_text(text())
    (tmp_path / "2" / "card.yaml").write_text(text(pixel_size_um=0.25))
    assert read_card(tmp_path, "1").pixel_size_um == 0.5
    assert read_card(tmp_path, "2").pixel_size_um == 0.25


def test_a_model_without_a_card_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=f"The model {tmp_path.name} has no readable card.yaml"):
        read_card(tmp_path)
