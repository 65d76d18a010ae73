"""Instance segmentation: each chosen channel of an image becomes a label image, or all of them together do."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from services.consumer import metrics
from services.consumer.dense import HELD, SCALES, Segmenter, check_channels, choose_zoom
from services.consumer.pipeline import Options, Pipeline
from services.consumer.reading import Decoded, ReadLimits
from services.consumer.results import Entry, base_name, finish, hand_over
from services.consumer.tools import Progress, Tools, each
from services.consumer.view import SHOWN, View
from services.consumer.worker import Outcome
from services.consumer.writing import write_labels
from shared.dense import ModelCard
from shared.errors import InvalidInput
from shared.jobs import Job

#: Stains and markers of nuclei, as channels are named after them.
_NUCLEAR = ("dapi", "hoechst", "nuc", "h2b", "draq5", "sytox", "to-pro", "topro")
#: Planes of one job under way at once.
_PLANES = 4


def channel_list(value: Any) -> Any:
    """Take channels as a list or as a text such as ``0,1``; blanks are none."""
    if isinstance(value, str):
        value = value.split(",")
    if isinstance(value, int):
        return [value]
    return [entry for entry in value if str(entry).strip()] if isinstance(value, list | tuple) else value


def blank_is_none(value: Any) -> Any:
    """Take an empty text for nothing, as forms send it."""
    return None if isinstance(value, str) and not value.strip() else value


# What is told of these beside their types is for the frontend, which refuses the rest before any work; here the reasons
# are told in the words of the image.
#: The axes of an image, one letter each (`services.consumer.imaging.axes`); empty to have them worked out.
Order = Annotated[str, Field(json_schema_extra={"pattern": "^ *[BTZYXCSbtzyxcs]{0,7} *$"})]
_Channel = Annotated[int, Field(json_schema_extra={"minimum": 0})]
Channels = Annotated[
    tuple[_Channel, ...], BeforeValidator(channel_list), Field(json_schema_extra={"maxItems": ReadLimits.samples})
]
Scale = Annotated[Annotated[float, Field(ge=SCALES[0], le=SCALES[1])] | None, BeforeValidator(blank_is_none)]
PixelSize = Annotated[Annotated[float, Field(gt=0, le=1000)] | None, BeforeValidator(blank_is_none)]


class ImageOptions(Options):
    """How an image is to be read."""

    dimension_order: Order = Field(
        "", title="Dimension order", description="Such as XY, XYC, CXY or BXYC; empty to have it worked out."
    )
    scale: Scale = Field(
        None,
        title="Scale",
        description="Micrometres per pixel of the image over those of the model, 0.1 to 10; empty to have it found.",
    )
    pixel_size_um: PixelSize = Field(
        None, title="Pixel size (µm)", description="Micrometres per pixel; empty: from the file, where it says."
    )
    detect_scale: bool = Field(
        True,
        title="Detect the scale",
        description="Find the size of the objects where scale and pixel size are not known.",
    )


class SegmentationOptions(ImageOptions):
    """Options of a segmentation."""

    channels: Channels = Field(
        (),
        title="Channels",
        description="Numbers of the channels to segment, from 0, such as 0 or 0,2; empty: the one that shows nuclei. "
        "For a model that reads several at once: its channels, in its order.",
    )


class Segmentation(Pipeline[SegmentationOptions]):
    """One label image per batch item, chosen channel and kind of object that the model tells apart."""

    job_type = "segmentation"
    title = "Segmentation"
    description = "Finds each nucleus or cell in a fluorescence image and gives it a number of its own."
    rank = 0
    model = "NuclearSegmentation"
    Options = SegmentationOptions

    async def run(self, job: Job, tools: Tools) -> Outcome:
        """Read, segment plane by plane, store."""
        options = self.options(job)
        decoded = await tools.image(options.dimension_order, options.pixel_size_um)
        async with tools.bench.memory.reserve(job_memory(decoded, HELD)):
            return await self._segment(job, tools, options, decoded)

    async def _segment(self, job: Job, tools: Tools, options: SegmentationOptions, decoded: Decoded) -> Outcome:
        image = decoded.open()
        batch, count = image.shape[:2]
        check_channels(options.channels, count)
        card = await tools.card(self.model)
        runs = await _runs(tools, card, options.channels, decoded)
        zoom = await choose_zoom(
            tools,
            card,
            image[batch // 2, runs[0][card.scale_channel]],
            scale=options.scale,
            pixel_size_um=decoded.pixel_size_um,
            detect=options.detect_scale,
        )
        if "handover" in job.fields:
            return await _hand_over(job, tools, image, Segmenter(card, runs[0], zoom))
        planes = [(b, place) for b in range(batch) for place in range(len(runs))]
        progress = Progress(tools, len(planes))
        view = View(tools, image, decoded, channel=runs[0][0], layers=_layers(decoded, runs, card))

        async def plane(b: int, place: int) -> list[Entry]:
            segmenter = Segmenter(card, runs[place], zoom)
            found = await segmenter.plane(tools, image[b], f"labels-{b}-{place}", progress)
            entries = []
            for kind, labels in enumerate(found):
                feature = place * len(found) + kind
                path = tools.scratch / f"{b}-{feature}.tif"
                about = {
                    "model": f"{card.name}:{card.version}",
                    "scale": f"{zoom:g}",
                    "dim_order": decoded.dim_order,
                    "channel": ",".join(map(str, runs[place])),
                    "objects": card.objects[kind].name,
                }
                await tools.compute(_write, path, labels, decoded.pixel_size_um, about, stage="post-processing")
                await view.labels(b, feature, labels)
                entries.append((f"{base_name(job)}_batch_{b}_feature_{feature}.tif", path))
            return entries

        await progress.add(0)
        entries = await each((plane(b, place) for b, place in planes), _PLANES)
        count_pixels(job, image, len(planes))
        facts = {
            "dim_order": decoded.dim_order,
            "scale": f"{zoom:g}",
            "channels": ",".join(str(channel) for run in runs for channel in run),
            "model_used": f"{card.name}:{card.version}",
        }
        return await finish(tools, list(chain(*entries)), view, facts)


async def _hand_over(job: Job, tools: Tools, image: NDArray[Any], segmenter: Segmenter) -> Outcome:
    """Leave bare labels, the first kind of all planes in one file, for the movie that these planes are frames of."""
    stack = tools.labels((image.shape[0], *image.shape[2:]), "stack")

    async def plane(b: int) -> None:
        stack[b] = (await segmenter.plane(tools, image[b], f"labels-{b}"))[0]

    await tools.tell("predicting", 10)
    await each((plane(b) for b in range(len(stack))), _PLANES)
    count_pixels(job, image, len(stack))
    path = tools.scratch / "labels.tif"
    await tools.compute(_write, path, stack, None, {}, stage="post-processing")
    return await hand_over(tools, path, {"scale": f"{segmenter.zoom:g}"})


async def _runs(tools: Tools, card: ModelCard, chosen: Sequence[int], decoded: Decoded) -> list[tuple[int, ...]]:
    """Return the channels that the model reads in each of its runs over a plane.

    A model of one channel reads each chosen one by itself. A model of more, such as a nuclear and a cytoplasm stain,
    reads the chosen ones together, in its own order; without a choice all that the image has.
    """
    batch, count = decoded.shape[:2]
    wanted = len(card.channels)
    if wanted == 1:
        if chosen or count == 1:
            return [(channel,) for channel in chosen or (0,)]
        return [(await tools.compute(likely_channel, decoded.open()[batch // 2], decoded.channel_names),)]
    channels = tuple(chosen or range(count))
    if len(channels) != wanted:
        what = f"{len(channels)} were chosen" if chosen else f"the image has {count}"
        raise InvalidInput(
            f"The model {card.name} reads {wanted} channels ({', '.join(card.channels)}), and {what}; "
            "the option channels says which they are, in this order.",
            code="channels",
        )
    return [channels]


def likely_channel(image: NDArray[Any], names: Sequence[str]) -> int:
    """Return the channel of an image (C, H, W) that shows nuclei: by its name, else the one with most contrast."""
    for channel, name in enumerate(names[: image.shape[0]]):
        if any(stain in name.lower() for stain in _NUCLEAR):
            return channel
    if image.shape[0] == 1:
        return 0
    step = max(1, max(image.shape[1:]) // 512)
    spread = [float(np.nanstd(channel[::step, ::step], dtype=np.float64)) for channel in image]
    return spread.index(max(spread))


def _layers(decoded: Decoded, runs: Sequence[tuple[int, ...]], card: ModelCard) -> list[str]:
    """Return what the label images of a plane are called, in the order of their features."""
    kinds = [SHOWN.get(kind.name, kind.name) for kind in card.objects]
    if len(runs) == 1:
        return ["cells"] if len(kinds) == 1 else kinds
    names = dict(enumerate(decoded.channel_names))
    return [f"{kind} of {names.get(run[0], f'channel {run[0]}')}" for run in runs for kind in kinds]


def job_memory(decoded: Decoded, held: int | None = None) -> int:
    """Estimate the bytes that an image's job holds at once: some planes of pixels, maps and labels.

    Of a plane so many pixels as are ``held``, where the job works on it block by block.
    """
    batch, _, rows, columns = decoded.shape
    return 12 * min(rows * columns, held or rows * columns) * min(batch, _PLANES)


def count_pixels(job: Job, image: NDArray[Any], planes: int) -> None:
    """Count what was analysed."""
    metrics.images.labels(job.type).inc(planes)
    metrics.megapixels.labels(job.type).inc(planes * image.shape[-1] * image.shape[-2] / 1e6)


def _write(path: Any, labels: NDArray[np.int32], pixel_size_um: float | None, about: dict[str, str]) -> None:
    write_labels(path, labels, pixel_size_um=pixel_size_um, description=about)
