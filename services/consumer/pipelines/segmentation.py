"""Instance segmentation: each chosen channel of an image becomes a label image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from services.consumer import metrics
from services.consumer.dense import SCALES, Segmenter, check_channels, choose_zoom
from services.consumer.pipeline import Options, Pipeline
from services.consumer.reading import Decoded
from services.consumer.results import Entry, Preview, base_name, finish
from services.consumer.tools import Tools, each
from services.consumer.worker import Outcome
from services.consumer.writing import write_labels
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


Channels = Annotated[tuple[int, ...], BeforeValidator(channel_list)]
Scale = Annotated[float | None, BeforeValidator(blank_is_none), Field(ge=SCALES[0], le=SCALES[1])]
PixelSize = Annotated[float | None, BeforeValidator(blank_is_none), Field(gt=0, le=1000)]


class ImageOptions(Options):
    """How an image is to be read."""

    dimension_order: str = Field(
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
        description="Numbers of the channels to segment, from 0, such as 0 or 0,2; empty: the one that shows nuclei.",
    )


class Segmentation(Pipeline[SegmentationOptions]):
    """One label image per batch item and chosen channel."""

    job_type = "segmentation"
    title = "Segmentation"
    description = "Finds each nucleus or cell in a fluorescence image and gives it a number of its own."
    rank = 0
    model = "NuclearSegmentation"
    Options = SegmentationOptions

    async def run(self, job: Job, tools: Tools) -> Outcome:
        """Read, segment plane by plane, store."""
        options = self.options(job)
        decoded = await tools.image(options.dimension_order)
        async with tools.bench.memory.reserve(job_memory(decoded)):
            return await self._segment(job, tools, options, decoded)

    async def _segment(self, job: Job, tools: Tools, options: SegmentationOptions, decoded: Decoded) -> Outcome:
        image = decoded.open()
        batch, count = image.shape[:2]
        check_channels(options.channels, count)
        channels = options.channels or (await tools.compute(likely_channel, image[batch // 2], decoded.channel_names),)
        card = await tools.card(self.model)
        if len(card.channels) != 1:
            raise InvalidInput(
                f"The model {card.name} reads {len(card.channels)} channels at once; "
                "segmentation takes one channel after another.",
                code="does-not-fit-model",
            )
        zoom = await choose_zoom(
            tools,
            card,
            image[batch // 2, channels[0]],
            scale=options.scale,
            pixel_size_um=options.pixel_size_um or decoded.pixel_size_um,
            detect=options.detect_scale,
        )
        planes = [(b, place) for b in range(batch) for place in range(len(channels))]
        done = 0
        shown: dict[tuple[int, int], NDArray[np.int32]] = {}

        async def plane(b: int, place: int) -> Entry:
            nonlocal done
            segmenter = Segmenter(card, (channels[place],), zoom)
            labels = (await segmenter.plane(tools, image[b], f"labels-{b}-{place}"))[0]
            name = f"{base_name(job)}_batch_{b}_feature_{place}.tif"
            path = tools.scratch / f"{b}-{place}.tif"
            about = {"model": f"{card.name}:{card.version}", "scale": f"{zoom:g}", "channel": str(channels[place])}
            await tools.compute(_write, path, labels, decoded.pixel_size_um, about, stage="post-processing")
            done += 1
            if (b, place) == (0, 0):
                shown[0, 0] = labels
            await tools.tell("predicting", 10 + 80 * done // len(planes))
            return name, path

        await tools.tell("predicting", 10)
        entries = await each((plane(b, place) for b, place in planes), _PLANES)
        count_pixels(job, image, len(planes))
        facts = {
            "dim_order": decoded.dim_order,
            "scale": f"{zoom:g}",
            "channels": ",".join(map(str, channels)),
            "model_used": f"{card.name}:{card.version}",
        }
        return await finish(tools, entries, Preview(image[0, channels[0]], shown[0, 0]), facts)


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


def job_memory(decoded: Decoded) -> int:
    """Estimate the bytes that an image's job holds at once: some planes of pixels, maps and labels."""
    batch, _, rows, columns = decoded.shape
    return 12 * rows * columns * min(batch, _PLANES)


def count_pixels(job: Job, image: NDArray[Any], planes: int) -> None:
    """Count what was analysed."""
    metrics.images.labels(job.type).inc(planes)
    metrics.megapixels.labels(job.type).inc(planes * image.shape[-1] * image.shape[-2] / 1e6)


def _write(path: Any, labels: NDArray[np.int32], pixel_size_um: float | None, about: dict[str, str]) -> None:
    write_labels(path, labels, pixel_size_um=pixel_size_um, description=about)
