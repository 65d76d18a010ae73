"""One block of an image through a network: normalise, resize, tile, predict, blend, quantise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.dense.card import ModelCard, ObjectMaps
from shared.dense.normalise import normalise, rescale
from shared.dense.tiles import Blend, cut, plan
from shared.errors import InvalidInput

Net = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A network: float32 (N, C, t, u) to float32 (N, outputs, t, u)."""


@dataclass(frozen=True, slots=True)
class Request:
    """One block to predict.

    ``block``: (H, W, C), uint8, uint16 or float32, C as in the card. ``window``: float32 (C, 2), the intensities
    that become 0 and 1. ``zoom``: model pixels per image pixel.
    """

    block: NDArray[Any]
    window: NDArray[np.float32]
    zoom: float


def predict(
    block: NDArray[Any], window: NDArray[np.float32], zoom: float, card: ModelCard, net: Net
) -> NDArray[np.uint8]:
    """The maps of one block, one per kind of object; see :class:`Request` for what goes in.

    Returns uint8 (K, round(H * zoom), round(W * zoom)): 0 in the background, else 1 to 255 for an inner distance
    of 0 to 1. K is the number of kinds of objects in the card. Raises InvalidInput if the arrays do not fit the
    card.
    """
    request = Request(block, window, zoom)
    check(request, card)
    return predict_all([request], card, net)[0]


def predict_all(requests: Sequence[Request], card: ModelCard, net: Net) -> list[NDArray[np.uint8]]:
    """The maps of many blocks, as :func:`predict`; tiles of equal size share calls of the network.

    The requests must have passed :func:`check`.
    """
    works = [_Work(request, card) for request in requests]
    by_shape: dict[tuple[int, int], list[_Work]] = {}
    for work in works:
        by_shape.setdefault(work.tiles.tile, []).append(work)
    for alike in by_shape.values():
        pieces = (piece for work in alike for piece in work.pieces())
        while batch := list(islice(pieces, card.batch)):
            results = _activate(net(np.stack([tile for _, _, tile in batch])), card.activation)
            for (work, place, _), result in zip(batch, results, strict=True):
                work.add(place, result)
    return [work.maps(card) for work in works]


def check(request: Request, card: ModelCard) -> None:
    """Raise InvalidInput, with a sentence, if ``request`` does not fit ``card``."""
    shape, channels = request.block.shape, len(card.channels)
    if len(shape) != 3 or shape[2] != channels or 0 in shape:
        wanted = f"{channels} channel{'s' if channels > 1 else ''} ({', '.join(card.channels)})"
        raise InvalidInput(f"{card.name} takes images of {wanted}; this one has the shape {shape}.")
    if request.window.shape != (channels, 2):
        raise InvalidInput(f"The intensity window must have the shape ({channels}, 2), not {request.window.shape}.")
    if not 0.001 <= request.zoom <= 1000:
        raise InvalidInput(f"The zoom must lie between 0.001 and 1000, not {request.zoom:g}.")


class _Work:
    """One block on its way through the network."""

    def __init__(self, request: Request, card: ModelCard) -> None:
        plane = rescale(np.ascontiguousarray(request.block, np.float32), request.zoom)
        self._image = normalise(plane, request.window, card.normalisation)
        self._shape = (plane.shape[0], plane.shape[1])
        self._blend: Blend | None = None
        self.tiles = plan(self._shape, card.tile, card.overlap, card.multiple, fixed=card.fixed_tile)

    def pieces(self) -> Iterator[tuple[_Work, tuple[int, int], NDArray[np.float32]]]:
        return ((self, *pair) for pair in zip(self.tiles.places(), cut(self._image, self.tiles), strict=True))

    def add(self, place: tuple[int, int], result: NDArray[np.float32]) -> None:
        if self._blend is None:
            self._blend = Blend(self._shape, result.shape[0], self.tiles)
        self._blend.add(place, result)

    def maps(self, card: ModelCard) -> NDArray[np.uint8]:
        assert self._blend is not None  # a plan has at least one tile
        maps = self._blend.result()
        return np.stack([quantise(maps, each, card.postprocessing.foreground) for each in card.objects])


def quantise(maps: NDArray[np.float32], kind: ObjectMaps, threshold: float) -> NDArray[np.uint8]:
    """One byte per pixel, float32 (outputs, h, w) to uint8 (h, w): 0 background, else 1 + 254 * inner distance."""
    front = maps[kind.foreground]
    if kind.distance is not None:
        height = maps[kind.distance]
    elif kind.boundary is not None:
        height = front - maps[kind.boundary]
    else:
        height = front
    value = np.round(254 * np.clip(height, 0, 1) + 1)
    return np.asarray(np.where(front >= threshold, value, 0), np.uint8)


def _activate(values: NDArray[np.float32], how: str) -> NDArray[np.float32]:
    if how == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-values)), np.float32)
    if how == "softmax":
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
    return values
