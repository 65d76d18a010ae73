"""Planes to labels: the way from pixels through a dense model to one label image per kind of object."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.consumer.imaging.normalise import plane_window, to_wire
from services.consumer.imaging.stitch import Block, Stitcher, blocks
from services.consumer.imaging.watershed import WatershedParams, watershed
from services.consumer.tools import Progress, Tools, each
from shared.dense import ModelCard
from shared.dense.card import Normalisation
from shared.dense.scale import object_diameter, zoom_to
from shared.errors import InvalidInput

#: Scales that users may give: image micrometres per pixel over the model's.
SCALES = (0.1, 10.0)
#: Most pixels on a side of one request, however far it is reduced.
_LARGEST_BLOCK = 4096
#: Blocks of one job under way at once: enough to overlap cutting, inference and watershed.
_BLOCKS = 4
#: Pixels of one plane that are in memory at once, at most; what is larger lies in files and is worked on in blocks.
HELD = _BLOCKS * _LARGEST_BLOCK**2


@dataclass(frozen=True)
class Segmenter:
    """How planes are turned into labels.

    Attributes:
        card: of the model.
        channels: for each of the model's inputs the image's channel, None for one that is not there (zeros).
        zoom: model pixels per image pixel.
    """

    card: ModelCard
    channels: tuple[int | None, ...]
    zoom: float

    async def plane(
        self, tools: Tools, image: NDArray[Any], name: str = "labels", progress: Progress | None = None
    ) -> list[NDArray[np.int32]]:
        """Return one label image, int32 (H, W), for each kind of object of the model.

        Args:
            tools: of the job.
            image: (C, H, W), any real dtype; read window by window, so that it may be a memory map.
            name: of the scratch file of labels too large for memory.
            progress: is told of each block.
        """
        shape = image.shape[1:]
        pieces = list(blocks((shape[0], shape[1]), *self._block_and_halo()))
        kinds = self.card.objects
        if len(pieces) == 1:
            window, pixels = await tools.compute(
                lambda: (self._window(image), self._cut(image, pieces[0])), stage="pre-processing"
            )
            labels = await self._labels(tools, pixels, window, pieces[0])
            if progress is not None:
                await progress.add(1)
            return labels
        window = await tools.compute(self._window, image, stage="pre-processing")
        out = [tools.labels((shape[0], shape[1]), f"{name}-{kind.name}") for kind in kinds]
        least = self.card.postprocessing.min_size / self.zoom**2
        stitchers = [Stitcher(labels, self._block_and_halo()[1], min_size=least) for labels in out]
        turn = asyncio.Lock()

        async def piece(block: Block) -> None:
            labels = await self._block(tools, image, window, block)
            async with turn:
                for stitcher, found in zip(stitchers, labels, strict=True):
                    await tools.compute(stitcher.add, block, found, stage="post-processing")
            if progress is not None:
                await progress.add(1 / len(pieces))

        await each((piece(block) for block in pieces), _BLOCKS)
        for stitcher in stitchers:
            await tools.compute(stitcher.finish, stage="post-processing")
        return out

    async def _block(
        self, tools: Tools, image: NDArray[Any], window: NDArray[np.float32], block: Block
    ) -> list[NDArray[np.int32]]:
        pixels = await tools.compute(self._cut, image, block, stage="pre-processing")
        return await self._labels(tools, pixels, window, block)

    async def _labels(
        self, tools: Tools, pixels: NDArray[Any], window: NDArray[np.float32], block: Block
    ) -> list[NDArray[np.int32]]:
        maps = await tools.predict(self.card, pixels, window, self.zoom)
        del pixels
        return [
            await tools.compute(watershed, distance, self._watershed(), block.shape, stage="post-processing")
            for distance in maps
        ]

    def _window(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Return the intensities, float32 (model's C, 2), that become 0 and 1, over the whole plane."""
        empty = np.zeros((1, 2), np.float32)
        rows = [
            empty if channel is None else intensity_window(image[channel], self.card.normalisation)
            for channel in self.channels
        ]
        return np.concatenate(rows)

    def _cut(self, image: NDArray[Any], block: Block) -> NDArray[Any]:
        """Return a block (h, w, model's C) in a dtype that travels; a single channel is not copied."""
        if len(self.channels) == 1 and self.channels[0] is not None:
            return to_wire(image[(self.channels[0], *block.outer)][..., np.newaxis])
        parts = [
            np.zeros(block.shape, image.dtype) if channel is None else image[(channel, *block.outer)]
            for channel in self.channels
        ]
        return to_wire(np.stack(parts, axis=-1))

    def _block_and_halo(self) -> tuple[int, int]:
        """Return the side of a request and its halo, in image pixels; the model sees at most its card's block."""
        side = max(64, min(_LARGEST_BLOCK, math.floor(self.card.block / self.zoom)))
        return side, min(math.ceil(self.card.halo / self.zoom), side // 4)

    def _watershed(self) -> WatershedParams:
        how = self.card.postprocessing
        return WatershedParams(smoothing=how.smoothing, h=how.h, min_size=how.min_size, max_hole=how.max_hole)


def intensity_window(plane: NDArray[Any], how: Normalisation) -> NDArray[np.float32]:
    """Return the window of one (H, W) plane, float32 (1, 2), as a model's card asks for it."""
    if how.window == "range":
        return np.array([[how.low, how.high]], np.float32)
    if how.window == "percentile":
        return plane_window(plane, low=how.low, high=how.high, nonzero=how.of == "non-zero")
    values = plane[plane > 0] if how.of == "non-zero" else plane
    values = values[np.isfinite(values)] if plane.dtype.kind == "f" else values
    mean, spread = (float(values.mean()), float(values.std())) if values.size else (0.0, 0.0)
    return np.array([[mean, mean + spread]], np.float32)


async def choose_zoom(
    tools: Tools,
    card: ModelCard,
    plane: NDArray[Any],
    *,
    scale: float | None,
    pixel_size_um: float | None,
    detect: bool,
) -> float:
    """Return model pixels per image pixel.

    The first that is known: the user's scale; the pixel size, where it leads to an allowed scale; the size of the
    objects on the plane (H, W), where that may be looked at and the model says what size it knows; else 1.
    """
    if scale is not None:
        return scale
    if pixel_size_um is not None and SCALES[0] <= pixel_size_um / card.pixel_size_um <= SCALES[1]:
        return pixel_size_um / card.pixel_size_um
    if not detect or not card.object_diameter:
        return 1.0
    found = await tools.compute(object_diameter, plane, stage="pre-processing")
    return zoom_to(card.object_diameter, found)


def check_channels(channels: Sequence[int], count: int) -> None:
    """Raise InvalidInput where a chosen channel is not in an image of ``count`` channels."""
    for channel in channels:
        if not 0 <= channel < count:
            have = "one channel, 0" if count == 1 else f"{count} channels, 0 to {count - 1}"
            raise InvalidInput(f"Channel {channel} was chosen, but the image has {have}.", code="no-such-channel")
