"""Whole cells and their nuclei from two channels, after N. F. Greenwald et al., Nat Biotechnol 40 (2022), 555-565."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from services.consumer.dense import Segmenter, check_channels, choose_zoom
from services.consumer.imaging.cells import match_nuclei
from services.consumer.imaging.labels import remove_small
from services.consumer.pipeline import Pipeline
from services.consumer.pipelines.segmentation import Channels, ImageOptions, count_pixels, job_memory
from services.consumer.reading import Decoded
from services.consumer.results import Entry, base_name, finish
from services.consumer.tools import Progress, Tools, each
from services.consumer.view import View
from services.consumer.worker import Outcome
from services.consumer.writing import write_labels
from shared.dense import ModelCard
from shared.errors import InvalidInput
from shared.jobs import Job

#: The kinds of objects in the order of the features that clients expect.
KINDS = ("whole-cell", "nuclear")
_PLANES = 2


class MesmerOptions(ImageOptions):
    """Options of a whole-cell segmentation."""

    channels: Channels = Field(
        (0, 1), title="Channels", description="Numbers of the nuclear and of the membrane channel, from 0."
    )
    compartment: Annotated[
        Literal["whole-cell", "nuclear", "both"],
        BeforeValidator(
            lambda value: value.strip().lower().replace("_", "-") or "both" if isinstance(value, str) else value
        ),
    ] = Field("both", title="Compartment", description="What to label: whole cells, nuclei, or both.")
    min_size: float = Field(
        0, ge=0, title="Smallest object", description="Objects of fewer square pixels of the image are removed."
    )


class Mesmer(Pipeline[MesmerOptions]):
    """Whole-cell and nuclear labels of multiplexed tissue images."""

    job_type = "mesmer"
    title = "Whole cells (two channels)"
    description = "Labels whole cells and their nuclei in images of a nuclear and a membrane channel."
    rank = 10
    model = "WholeCellSegmentation"
    Options = MesmerOptions

    async def run(self, job: Job, tools: Tools) -> Outcome:
        """Read, segment plane by plane, match nuclei to cells, store."""
        options = self.options(job)
        decoded = await tools.image(options.dimension_order, options.pixel_size_um)
        async with tools.bench.memory.reserve(2 * job_memory(decoded)):
            return await self._segment(job, tools, options, decoded)

    async def _segment(self, job: Job, tools: Tools, options: MesmerOptions, decoded: Decoded) -> Outcome:
        image = decoded.open()
        batch = image.shape[0]
        card = await tools.card(self.model)
        channels = _two_channels(options, image.shape[1], card)
        zoom = await choose_zoom(
            tools, card, image[batch // 2, channels[0]],
            scale=options.scale, pixel_size_um=decoded.pixel_size_um, detect=options.detect_scale,
        )  # fmt: skip
        segmenter = Segmenter(card, channels, zoom)
        kinds = [kind for kind in KINDS if options.compartment in (kind, "both")]
        stacks = {kind: tools.labels((batch, *image.shape[2:]), f"stack-{kind}") for kind in kinds}
        view = View(tools, image, decoded, channel=channels[-1], layers=kinds)
        progress = Progress(tools, batch)

        async def plane(b: int) -> None:
            found = await segmenter.plane(tools, image[b], f"labels-{b}", progress)
            by_kind = dict(zip((kind.name for kind in card.objects), found, strict=True))
            matched = await tools.compute(_match, by_kind, options.min_size, stage="post-processing")
            for layer, (kind, stack) in enumerate(stacks.items()):
                stack[b] = matched[kind]
                await view.labels(b, layer, stack[b])

        await progress.add(0)
        await each((plane(b) for b in range(batch)), _PLANES)
        about = {"model": f"{card.name}:{card.version}", "scale": f"{zoom:g}", "dim_order": decoded.dim_order}
        entries = [await _written(tools, kind, stack, decoded.pixel_size_um, about) for kind, stack in stacks.items()]
        count_pixels(job, image, batch)
        facts = {"dim_order": decoded.dim_order, "scale": f"{zoom:g}", "model_used": about["model"]}
        return await finish(tools, entries, view, facts)


def _two_channels(options: MesmerOptions, count: int, card: ModelCard) -> tuple[int, ...]:
    if not {kind.name for kind in card.objects} >= set(KINDS) or len(card.channels) != 2:
        raise InvalidInput(
            f"The model {card.name} does not give whole cells and nuclei from two channels.", code="does-not-fit-model"
        )
    if len(options.channels) != 2:
        raise InvalidInput(
            f"Two channels are needed, the nuclear and the membrane one; {len(options.channels)} were chosen.",
            code="channels",
        )
    if count < 2:
        raise InvalidInput(
            "Two channels are needed, the nuclear and the membrane one; the image has one.", code="channels"
        )
    check_channels(options.channels, count)
    return options.channels


def _match(found: dict[str, NDArray[np.int32]], min_size: float) -> dict[str, NDArray[np.int32]]:
    cells, nuclei = (remove_small(found[kind], min_size) for kind in KINDS)
    match_nuclei(cells, nuclei)
    return {"whole-cell": cells, "nuclear": nuclei}


async def _written(
    tools: Tools, kind: str, stack: NDArray[np.int32], pixel_size_um: float | None, about: dict[str, str]
) -> Entry:
    path = tools.scratch / f"{kind}.tif"
    labels = stack[0] if stack.shape[0] == 1 else stack

    def write() -> None:
        write_labels(path, labels, pixel_size_um=pixel_size_um, description={**about, "objects": kind})

    await tools.compute(write, stage="post-processing")
    return f"{base_name(tools.job)}_feature_{KINDS.index(kind)}.tif", path
