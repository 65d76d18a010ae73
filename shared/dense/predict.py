"""One block of an image through a network: normalise, resize, tile, predict, blend, quantise."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.dense.card import ModelCard, ObjectMaps
from shared.dense.normalise import normalise, rescale, scaled_shape
from shared.dense.tiles import Blend, cut, plan
from shared.errors import InvalidInput

Net = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A network: float32 (N, C, t, u) to float32 (N, outputs, t, u)."""

Done = Callable[[int, NDArray[np.uint8], float], None]
"""Takes the place of a request, its maps, and its part of the time, s."""

#: Batches that are ready before the network has asked for them, or wait to be put together.
AHEAD = 4


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
    work = _Work(0, request, card)
    for batch in _batches([work], card.batch):
        _add(batch, _activate(net(batch.tiles), card.activation))
    return work.maps()


class Predictor:
    """A network that is kept busy: one thread readies tiles ahead of it, one puts together what it gave.

    For one caller at a time, who waits while the network runs.
    """

    def __init__(self, card: ModelCard, net: Net) -> None:
        self._card = card
        self._net = net
        self._before = ThreadPoolExecutor(1, "before")
        self._after = ThreadPoolExecutor(1, "after")

    def __call__(self, requests: Sequence[Request], done: Done) -> None:
        """Predict many blocks, as :func:`predict`; tiles of equal size share calls of the network.

        The requests must have passed :func:`check`. ``done`` is called, in another thread, with the place of a
        request and its maps as soon as it has them. The time that passes from one call of the network to the next is
        shared by the tiles of the call alike, so that all requests together never have more than passed.
        """
        works = [_Work(place, request, self._card) for place, request in enumerate(requests)]
        works.sort(key=lambda work: work.plan.tile)
        batches = _batches(works, self._card.batch)
        ahead = deque(self._before.submit(next, batches, None) for _ in range(AHEAD))
        behind: deque[Future[None]] = deque()
        since = time.monotonic()
        try:
            while (batch := ahead.popleft().result()) is not None:
                ahead.append(self._before.submit(next, batches, None))
                results = self._net(batch.tiles)
                now = time.monotonic()
                behind.append(self._after.submit(self._finish, batch, results, now - since, done))
                since = now
                if len(behind) > AHEAD:
                    behind.popleft().result()
        finally:
            wait(ahead)
            wait(behind)
        for each in behind:
            each.result()

    def close(self) -> None:
        """End the threads."""
        self._before.shutdown()
        self._after.shutdown()

    def _finish(self, batch: _Batch, results: NDArray[np.float32], seconds: float, done: Done) -> None:
        for work, _place in batch.places:
            work.seconds += seconds / len(batch.places)
        for work in _add(batch, _activate(results, self._card.activation)):
            done(work.place, work.maps(), work.seconds)


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
    """One block on its way through the network; takes memory from its first tile on."""

    def __init__(self, place: int, request: Request, card: ModelCard) -> None:
        self.place = place
        self.seconds = 0.0
        self._request = request
        self._card = card
        self._shape = scaled_shape((request.block.shape[0], request.block.shape[1]), request.zoom)
        self.plan = plan(self._shape, card.tile, card.overlap, card.multiple, fixed=card.fixed_tile)
        self._missing = len(self.plan)
        self._blend: Blend | None = None

    def pieces(self) -> Iterator[tuple[_Work, tuple[int, int], NDArray[np.float32]]]:
        request = self._request
        image = normalise(rescale(request.block, request.zoom), request.window, self._card.normalisation)
        return ((self, *pair) for pair in zip(self.plan.places(), cut(image, self.plan), strict=True))

    def add(self, place: tuple[int, int], result: NDArray[np.float32]) -> bool:
        """Add the result of a tile; tells whether it was the last."""
        if self._blend is None:
            self._blend = Blend(self._shape, result.shape[0], self.plan)
        self._blend.add(place, result)
        self._missing -= 1
        return not self._missing

    def maps(self) -> NDArray[np.uint8]:
        assert self._blend is not None  # a plan has at least one tile
        values, self._blend = self._blend.result(), None
        maps = np.empty((len(self._card.objects), *self._shape), np.uint8)
        for kind, target in zip(self._card.objects, maps, strict=True):
            target[...] = quantise(values, kind, self._card.postprocessing.foreground)
        return maps


@dataclass(frozen=True, slots=True)
class _Batch:
    """Tiles for one call of the network, float32 (N, C, t, u), and where each belongs."""

    tiles: NDArray[np.float32]
    places: list[tuple[_Work, tuple[int, int]]]


def _batches(works: Iterable[_Work], size: int) -> Iterator[_Batch]:
    """Cut works, those of equal tiles in a row, into batches."""
    for _, alike in groupby(works, key=lambda work: work.plan.tile):
        pieces = (piece for work in alike for piece in work.pieces())
        while batch := list(islice(pieces, size)):
            yield _Batch(np.stack([tile for _, _, tile in batch]), [(work, place) for work, place, _ in batch])


def _add(batch: _Batch, results: NDArray[np.float32]) -> list[_Work]:
    """Give each work its results; return those that now have all."""
    return [work for (work, place), result in zip(batch.places, results, strict=True) if work.add(place, result)]


def quantise(maps: NDArray[np.float32], kind: ObjectMaps, threshold: float) -> NDArray[np.uint8]:
    """One byte per pixel, float32 (outputs, h, w) to uint8 (h, w): 0 background, else 1 + 254 * inner distance."""
    front = maps[kind.foreground]
    if kind.distance is not None:
        height = maps[kind.distance]
    elif kind.boundary is not None:
        height = front - maps[kind.boundary]
    else:
        height = front
    value = np.clip(height, 0, 1)
    value *= 254
    value += 1
    np.rint(value, out=value)
    np.copyto(value, 0, where=~(front >= threshold))
    return np.asarray(value, np.uint8)


def _activate(values: NDArray[np.float32], how: str) -> NDArray[np.float32]:
    if how == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-values)), np.float32)
    if how == "softmax":
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
    return values
