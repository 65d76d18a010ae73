"""Blocks through a network: tiles, blending, normalisation and quantising, with networks that are plain functions."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.dense import ModelCard, Net, Normalisation, ObjectMaps, PostProcessing, Predictor, Request, predict
from shared.dense.normalise import normalise
from shared.dense.tiles import Blend, cut, plan
from shared.errors import InvalidInput

CARD = ModelCard(
    name="Mine",
    channels=("nuclear",),
    pixel_size_um=0.5,
    objects=(ObjectMaps("nuclear", foreground=0),),
    licence="MIT",
    origin="made up",
    tile=64,
    normalisation=Normalisation(window="range", low=0, high=1),
    postprocessing=PostProcessing(foreground=0.2),
)
UNIT = np.array([[0, 1]], np.float32)


def identity(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    return batch


sides = st.integers(1, 200)


@settings(deadline=None, max_examples=60)
@given(sides, sides, st.sampled_from([32, 48, 64]), st.sampled_from([0.0, 0.1, 0.25, 0.5]), st.booleans())
def test_cutting_and_blending_gives_the_image_back(
    height: int, width: int, tile: int, overlap: float, fixed: bool
) -> None:
    image = np.random.default_rng(height * 211 + width).random((2, height, width), np.float32)
    tiles = plan((height, width), tile, overlap, 16, fixed=fixed)
    assert max(tiles.tile) <= tile
    assert all(side % 16 == 0 for side in tiles.tile)
    blend = Blend((height, width), 2, tiles)
    pieces = list(cut(image, tiles))
    assert len(pieces) == len(tiles)
    for place, piece in zip(tiles.places(), pieces, strict=True):
        assert piece.shape == (2, *tiles.tile)
        blend.add(place, piece)
    np.testing.assert_allclose(blend.result(), image, atol=1e-5)


def test_a_fixed_tile_is_kept_whatever_the_image() -> None:
    assert plan((5, 500), 64, 0.25, 16, fixed=True).tile == (64, 64)


def test_neighbours_share_at_least_the_overlap() -> None:
    tiles = plan((1000, 1000), 256, 0.25, 16)
    steps = np.diff(tiles.rows)
    assert (tiles.tile[0] - steps >= 64).all()
    assert tiles.rows[-1] + tiles.tile[0] == 1000


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_quantises_to_one_byte_with_the_background_as_zero(kind: str) -> None:
    block = np.array([[[0], [50], [100]]], kind)
    maps = predict(block, np.array([[0, 100]], np.float32), 1.0, CARD, identity)
    assert maps.dtype == np.uint8
    assert maps.tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (ObjectMaps("cell", foreground=0, distance=1), 1 + 254 * 0.5),
        (ObjectMaps("cell", foreground=0, boundary=1), 1 + 254 * 0.25),
        (ObjectMaps("cell", foreground=0), 1 + 254 * 0.75),
    ],
)
def test_height_comes_from_distance_or_boundary_or_foreground(kind: ObjectMaps, expected: float) -> None:
    def net(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([np.full_like(batch[:, 0], 0.75), np.full_like(batch[:, 0], 0.5)], axis=1)

    card = dataclasses.replace(CARD, objects=(kind,))
    maps = predict(np.ones((20, 20, 1), np.uint8), UNIT, 1.0, card, net)
    assert np.unique(maps).tolist() == [round(expected)]


@pytest.mark.parametrize(("how", "expected"), [("sigmoid", [0.5, 0.5]), ("softmax", [0.5, 0.5]), ("none", [0.0, 0.0])])
def test_the_activation_of_the_card_is_put_on(how: str, expected: list[float]) -> None:
    def net(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros((len(batch), 2, *batch.shape[2:]), np.float32)

    two = (ObjectMaps("a", foreground=0), ObjectMaps("b", foreground=1))
    card = dataclasses.replace(CARD, objects=two, activation=how)
    maps = predict(np.ones((16, 16, 1), np.uint8), UNIT, 1.0, card, net)
    wanted = [round(1 + 254 * each) if each >= 0.2 else 0 for each in expected]
    assert [np.unique(each).tolist() for each in maps] == [[value] for value in wanted]


@pytest.fixture
def predictor() -> Iterator[Callable[[ModelCard, Net], Predictor]]:
    made: list[Predictor] = []

    def make(card: ModelCard, net: Net) -> Predictor:
        made.append(Predictor(card, net))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_blocks_of_equal_tiles_share_calls_of_the_network(
    predictor: Callable[[ModelCard, Net], Predictor],
) -> None:
    calls: list[int] = []

    def net(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append(len(batch))
        return batch

    sides = [40, 20, 40, 40, 20, 40, 40, 40]
    window = np.array([[0, 10]], np.float32)
    requests = [Request(np.full((side, side, 1), n, np.uint8), window, 1.0) for n, side in enumerate(sides)]
    results: dict[int, NDArray[np.uint8]] = {}
    card = dataclasses.replace(CARD, batch=4, postprocessing=PostProcessing(0.0))
    predictor(card, net)(requests, lambda place, maps, _seconds: results.update({place: maps}))
    assert sorted(calls) == [2, 2, 4]
    assert sorted(results) == list(range(8))
    for n, request in enumerate(requests):
        np.testing.assert_array_equal(results[n], predict(request.block, window, 1.0, card, identity))


def test_equal_tiles_have_equal_parts_of_the_time(predictor: Callable[[ModelCard, Net], Predictor]) -> None:
    """Whoever is answered first has not used more of a call than the others in it."""
    used: dict[int, float] = {}
    sides = [40, 40, 40, 200]
    requests = [Request(np.zeros((side, side, 1), np.uint8), UNIT, 1.0) for side in sides]
    began = time.monotonic()
    predictor(dataclasses.replace(CARD, batch=1000, tile=40, overlap=0), identity)(
        requests, lambda place, _maps, seconds: used.update({place: seconds})
    )
    assert used[0] == used[1] == used[2] > 0
    assert used[3] == pytest.approx(25 * used[0])
    assert sum(used.values()) <= time.monotonic() - began


def test_a_block_is_handed_out_while_the_network_works_on_the_next(
    predictor: Callable[[ModelCard, Net], Predictor],
) -> None:
    first = threading.Event()

    def net(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        assert batch[0, 0, 0, 0] == 0 or first.wait(30), "the second block came before the first was handed out"
        return batch

    requests = [Request(np.full((40, 40, 1), n, np.uint8), UNIT, 1.0) for n in (0, 1)]
    predictor(dataclasses.replace(CARD, batch=1), net)(requests, lambda _place, _maps, _seconds: first.set())


def test_an_error_of_the_network_reaches_the_caller_and_the_next_call_works(
    predictor: Callable[[ModelCard, Net], Predictor],
) -> None:
    def net(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if batch.max() == 1:
            raise ValueError("out of memory")
        return batch

    places: list[int] = []
    predict_all = predictor(dataclasses.replace(CARD, batch=1), net)
    requests = [Request(np.full((200, 200, 1), n, np.uint8), UNIT, 1.0) for n in (0, 1, 0)]
    with pytest.raises(ValueError, match="out of memory"):
        predict_all(requests, lambda place, _maps, _seconds: places.append(place))
    assert places == [0]
    predict_all(requests[2:], lambda place, _maps, _seconds: places.append(place))
    assert places == [0, 0]


@pytest.mark.parametrize("zoom", [0.25, 1.0, 3.3])
def test_the_result_has_the_size_at_model_scale(zoom: float) -> None:
    maps = predict(np.ones((70, 33, 1), np.uint8), UNIT, zoom, CARD, identity)
    assert maps.shape == (1, round(70 * zoom), round(33 * zoom))


def test_a_single_pixel_goes_through() -> None:
    assert predict(np.ones((1, 1, 1), np.uint8), UNIT, 0.3, CARD, identity).shape == (1, 1, 1)


@pytest.mark.parametrize(
    ("shape", "window", "zoom", "sentence"),
    [
        ((10, 10), (1, 2), 1.0, "Mine takes images of 1 channel (nuclear); this one has the shape (10, 10)"),
        ((10, 10, 2), (1, 2), 1.0, "this one has the shape (10, 10, 2)"),
        ((0, 10, 1), (1, 2), 1.0, "this one has the shape (0, 10, 1)"),
        ((10, 10, 1), (2, 2), 1.0, "The intensity window must have the shape (1, 2), not (2, 2)"),
        ((10, 10, 1), (1, 2), 0.0, "The zoom must lie between 0.001 and 1000, not 0"),
        ((10, 10, 1), (1, 2), float("nan"), "The zoom must lie between 0.001 and 1000, not nan"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(
    shape: tuple[int, ...], window: tuple[int, int], zoom: float, sentence: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        predict(np.ones(shape, np.uint8), np.zeros(window, np.float32), zoom, CARD, identity)
    assert sentence in str(caught.value)


def test_an_empty_window_and_what_is_no_number_become_zero() -> None:
    plane = np.array([[[5.0], [np.nan]], [[np.inf], [-np.inf]]], np.float32)
    constant = normalise(plane, np.array([[5, 5]], np.float32), Normalisation())
    assert not constant.any()
    free = normalise(plane, np.array([[0, 10]], np.float32), Normalisation(clip=False))
    assert free.tolist() == [[[0.5, 0.0], [0.0, 0.0]]]


def test_gamma_is_a_power_after_clipping() -> None:
    plane = np.array([[[-1.0], [0.25], [9.0]]], np.float32)
    for gamma in (0.5, 2.0):
        found = normalise(plane, UNIT, Normalisation(window="range", low=0, high=1, gamma=gamma))
        np.testing.assert_allclose(found[0, 0], [0, 0.25**gamma, 1], rtol=1e-6)
