"""Spots assigned to cells, after E. Laubscher et al., Cell Systems 15 (2024), 475-482."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from services.consumer.dense import Segmenter, check_channels, choose_zoom
from services.consumer.imaging.spots import assign_to_cells
from services.consumer.pipeline import Pipeline
from services.consumer.pipelines.segmentation import (
    Channels,
    Order,
    PixelSize,
    Scale,
    count_pixels,
    job_memory,
)
from services.consumer.pipelines.spot import SpotSettings, detect, write_table
from services.consumer.reading import Decoded
from services.consumer.results import Entry, base_name, finish
from services.consumer.tools import Progress, Tools, each
from services.consumer.view import View
from services.consumer.worker import Outcome
from services.consumer.writing import write_labels
from shared.errors import InvalidInput
from shared.jobs import Job

_PLANES = 2
#: What the channels after that of the spots show.
_PARTS = ("nuclei", "membranes")
#: For each way to segment, its model; the kinds of objects follow from the model's card.
_MODELS = {"cell culture": "NuclearSegmentation", "tissue": "WholeCellSegmentation"}


def _kind(value: Any) -> Any:
    """Take the names that older clients use."""
    if isinstance(value, str):
        return value.strip().lower().replace("_", " ").replace("-", " ") or "cell culture"
    return value


class PolarisOptions(SpotSettings):
    """Options of spots in cells."""

    dimension_order: Order = Field("", title="Dimension order", description="Such as CXY or XYC; empty: worked out.")
    segmentation_type: Annotated[Literal["none", "cell culture", "tissue"], BeforeValidator(_kind)] = Field(
        "cell culture",
        title="Segmentation",
        description="none: spots alone; cell culture: nuclei; tissue: whole cells and nuclei.",
    )
    channels: Channels = Field(
        (),
        title="Channels",
        description="Numbers of the channels with spots, nuclei and membranes, in this order; empty: 0, 1 and 2.",
    )
    scale: Scale = Field(None, title="Scale", description="Of the cells, as for a segmentation; empty: found.")
    pixel_size_um: PixelSize = Field(None, title="Pixel size (µm)", description="Empty: from the file, where it says.")


class Polaris(Pipeline[PolarisOptions]):
    """Label images, and for each batch item a table of spots with the cell that each lies in."""

    job_type = "polaris"
    title = "Spots in cells"
    description = "Finds spots such as single RNA molecules and tells in which cell each lies."
    rank = 30  # no model of its own: which one is meant depends on the segmentation
    Options = PolarisOptions

    async def run(self, job: Job, tools: Tools) -> Outcome:
        """Read; per plane find spots and cells; store labels first, then tables."""
        options = self.options(job)
        decoded = await tools.image(options.dimension_order, options.pixel_size_um)
        async with tools.bench.memory.reserve(2 * job_memory(decoded)):
            return await self._analyse(job, tools, options, decoded)

    async def _analyse(self, job: Job, tools: Tools, options: PolarisOptions, decoded: Decoded) -> Outcome:
        image = decoded.open()
        channels = _channels(options, image.shape[1])
        segmenter = await _segmenter(tools, options, decoded, image, channels)
        facts = {"dim_order": decoded.dim_order, "scale": f"{segmenter.zoom:g}" if segmenter else "1"}
        model = f"{segmenter.card.name}:{segmenter.card.version}" if segmenter else ""
        about = {"model": model, **facts}
        kinds = [] if segmenter is None else [kind.name for kind in segmenter.card.objects]
        view = View(tools, image, decoded, channel=channels[0], layers=kinds)
        progress = Progress(tools, image.shape[0])

        async def plane(b: int) -> tuple[list[Entry], Entry]:
            spots = await detect(tools, image[b, channels[0]], options)
            labels = [] if segmenter is None else await segmenter.plane(tools, image[b], f"labels-{b}", progress)
            pictures = [
                await _written(tools, f"{base_name(job)}_batch_{b}_feature_{place}.tif", found, decoded, about)
                for place, found in enumerate(labels)
            ]
            table = tools.scratch / f"{b}.csv"
            cells = await tools.compute(_cells, spots, labels, stage="post-processing")
            await tools.compute(write_table, table, spots, {f"cellID{place}": ids for place, ids in enumerate(cells)})
            for layer, found in enumerate(labels):
                await view.labels(b, layer, found)
            await view.points(b, spots, cells[0] if cells else None)
            if segmenter is None:
                await progress.add(1)
            return pictures, (f"{base_name(job)}_{b}.csv", table)

        await progress.add(0)
        results = await each((plane(b) for b in range(image.shape[0])), _PLANES)
        count_pixels(job, image, image.shape[0])
        entries = [entry for pictures, _ in results for entry in pictures] + [table for _, table in results]
        return await finish(tools, entries, view, {**facts, **({"model_used": model} if model else {})})


def _channels(options: PolarisOptions, count: int) -> tuple[int, ...]:
    """Return the channels of spots, nuclei and membranes, as many as the way to segment needs."""
    needed = {"none": 1, "cell culture": 2, "tissue": 3}[options.segmentation_type]
    check_channels(options.channels, count)
    channels = options.channels or tuple(range(min(needed, count)))
    if len(channels) < needed:
        names = ", ".join(("spots", *_PARTS)[:needed])
        raise InvalidInput(
            f"Segmentation {options.segmentation_type!r} needs {needed} channels ({names}); there are {len(channels)}.",
            code="channels",
        )
    return channels[:needed]


async def _segmenter(
    tools: Tools, options: PolarisOptions, decoded: Decoded, image: NDArray[Any], channels: Sequence[int]
) -> Segmenter | None:
    if options.segmentation_type == "none":
        return None
    card = await tools.card(_MODELS[options.segmentation_type])
    if len(card.channels) != len(channels) - 1:
        raise InvalidInput(
            f"The model {card.name} reads channels of {', '.join(card.channels)}; the segmentation "
            f"{options.segmentation_type!r} is one by {' and '.join(_PARTS[: len(channels) - 1])}.",
            code="does-not-fit-model",
        )
    plane = image[image.shape[0] // 2, channels[1]]
    zoom = await choose_zoom(tools, card, plane, scale=options.scale, pixel_size_um=decoded.pixel_size_um, detect=True)
    return Segmenter(card, tuple(channels[1:]), zoom)


async def _written(
    tools: Tools, name: str, labels: NDArray[np.int32], decoded: Decoded, about: dict[str, str]
) -> Entry:
    path = tools.scratch / name.rpartition("_batch_")[2]

    def write() -> None:
        write_labels(path, labels, pixel_size_um=decoded.pixel_size_um, description=about)

    await tools.compute(write, stage="post-processing")
    return name, path


def _cells(spots: NDArray[np.float64], labels: Sequence[NDArray[np.int32]]) -> list[NDArray[np.int32]]:
    return [assign_to_cells(spots, found) for found in labels]
