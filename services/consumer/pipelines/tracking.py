"""Tracking: the frames of a movie are segmented in parallel as parts, then linked, with divisions."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import tifffile
from numpy.typing import NDArray
from pydantic import Field

from services.consumer.dense import check_channels, choose_zoom
from services.consumer.imaging.tracking import Tracker, TrackingParams
from services.consumer.pipeline import IMAGES, Pipeline
from services.consumer.pipelines.segmentation import Channels, ImageOptions, likely_channel
from services.consumer.reading import Decoded
from services.consumer.results import base_name, finish
from services.consumer.tools import Tools, each
from services.consumer.trk import ENDINGS, Segmented, read_trk
from services.consumer.view import Frames, View
from services.consumer.worker import Failed, Outcome, Split
from services.consumer.writing import write_labels
from shared.errors import InvalidInput
from shared.jobs import Job, states

#: Frames on their way into or out of storage at once.
_FRAMES = 8


class TrackingOptions(ImageOptions):
    """Options of a tracking; existing clients expect the defaults of distance, division, birth, death."""

    channels: Channels = Field((), title="Channel", description="Number of the channel to track; empty: found.")
    max_distance: float = Field(64, gt=0, le=10_000, title="Distance", description="Most pixels between two frames.")
    division: float = Field(0.01, ge=0, le=1, title="Division", description="Prior probability of a division, 0 to 1.")
    birth: float = Field(0.99, ge=0, le=1, title="Birth", description="Cost of a new track, 0 to 1.")
    death: float = Field(0.99, ge=0, le=1, title="Death", description="Cost of the end of a track, 0 to 1.")
    max_gap: int = Field(
        2, ge=0, le=10, title="Gap", description="Most frames in a row in which a cell may be missed, 0 to 10."
    )


class Tracking(Pipeline[TrackingOptions]):
    """A tracked stack and its lineage."""

    job_type = "tracking"
    title = "Tracking"
    description = "Segments each frame of a movie, follows the cells over time and finds their divisions."
    aliases = ("caliban",)
    rank = 20
    model = "NuclearSegmentation"
    accepts = (*IMAGES, *ENDINGS)
    Options = TrackingOptions

    async def run(self, job: Job, tools: Tools) -> Outcome:
        """Split a movie into frames at the first claim; link them once all have been segmented."""
        options = self.options(job)
        parts = await tools.parts()
        if parts:
            return await _gather(job, tools, options, parts)
        async with tools.stage("started", 0):
            source = await tools.fetch()
        if job.fields.get("original_name", "").lower().endswith(ENDINGS):
            return await _link_segmented(tools, options, source)
        async with tools.stage("pre-processing", 0):
            decoded = await tools.read(source, options.dimension_order, options.pixel_size_um)
            return await _split(job, tools, options, decoded, self.model)


async def _split(job: Job, tools: Tools, options: TrackingOptions, decoded: Decoded, default: str) -> Outcome:
    movie = decoded.open()
    _check_length(movie.shape[0], tools)
    check_channels(options.channels, movie.shape[1])
    channel = (*options.channels, likely_channel(movie[movie.shape[0] // 2], decoded.channel_names))[0]
    frames = movie[:, channel]
    zoom = await choose_zoom(
        tools, await tools.card(default), frames[len(frames) // 2],
        scale=options.scale, pixel_size_um=decoded.pixel_size_um, detect=options.detect_scale,
    )  # fmt: skip
    keys = await each((_store(tools, frames[t], t) for t in range(len(frames))), _FRAMES)
    inherited = {name: job.fields[name] for name in ("model", "model_version", "traceparent") if name in job.fields}
    # One scale for all frames: a size that is estimated anew on each would make cells flicker.
    chosen = {"options": json.dumps({"dimension_order": "XY", "channels": [0], "scale": min(10, max(0.1, zoom))})}
    children = [
        (
            "segmentation",
            {**inherited, **chosen, "input_file_name": key, "original_name": f"frame-{t}", "preview": "no"},
        )
        for t, key in enumerate(keys)
    ]
    size = f"{decoded.pixel_size_um:g}" if decoded.pixel_size_um else ""
    return Split(children, {"dim_order": decoded.dim_order, "scale": f"{zoom:g}", "pixel_size_um": size})


async def _store(tools: Tools, frame: NDArray[Any], number: int) -> str:
    path = tools.scratch / f"frame-{number}.npy"
    await tools.compute(np.save, path, np.ascontiguousarray(frame))
    try:
        return await tools.save(path, f"frames/{number}.npy", "application/octet-stream")
    finally:
        path.unlink()


async def _gather(job: Job, tools: Tools, options: TrackingOptions, parts: Sequence[Job]) -> Outcome:
    """Read the labels of all frames, link them, store the stack; a frame that failed is empty and is told."""
    failures = {part.fields["original_name"]: _reason(part) for part in parts if part.status != states.DONE}
    if len(failures) == len(parts):
        told = {"failures": urlencode(failures, quote_via=quote)}
        return Failed(f"No frame could be segmented: {next(iter(failures.values()))}", told)
    async with tools.stage("post-processing", 99):
        first = next(part for part in parts if part.status == states.DONE)
        shape = await tools.compute(_shape, await tools.fetch(first.fields["output_file_name"]))
        stack = tools.labels((len(parts), *shape), "stack")

        async def frame(number: int, part: Job) -> None:
            if part.status == states.DONE:
                path = await tools.fetch(part.fields["output_file_name"])
                await tools.compute(_read_into, stack[number], path)

        await each((frame(number, part) for number, part in enumerate(parts)), _FRAMES)
    raw = await each((tools.fetch(part.fields["input_file_name"]) for part in parts), _FRAMES)
    pixel_size = float(job.fields.get("pixel_size_um") or 0) or None
    facts = {
        "failures": urlencode(failures, quote_via=quote),
        "total_jobs": str(len(parts)),
        "prediction_time": f"{sum(float(part.fields.get('prediction_time', '0')) for part in parts):.6f}",
    }
    return await _linked(tools, options, stack, Frames(raw), pixel_size, facts)


async def _link_segmented(tools: Tools, options: TrackingOptions, source: Path) -> Outcome:
    """Link a movie that came with its labels."""
    async with tools.stage("pre-processing", 5):
        found: Segmented = await tools.compute(read_trk, source, tools.scratch, tools.settings.limits.job_memory)
        _check_length(found.labels.shape[0], tools)
        stack = tools.labels(found.labels.shape, "stack")
        await tools.compute(np.copyto, stack, found.labels)
    return await _linked(tools, options, stack, found.raw[:, np.newaxis], None, {"dim_order": "BXY", "scale": "1"})


async def _linked(
    tools: Tools,
    options: TrackingOptions,
    stack: NDArray[np.int32],
    image: NDArray[Any] | Frames,
    pixel_size_um: float | None,
    facts: Mapping[str, str],
) -> Outcome:
    params = TrackingParams(
        max_distance=options.max_distance,
        division=options.division,
        birth=options.birth,
        death=options.death,
        max_gap=options.max_gap,
    )
    target, lineage = tools.scratch / "tracked.tif", tools.scratch / "lineage.json"

    tracker = Tracker(params)

    def link() -> None:
        for frame in stack:
            frame[...] = tracker.add(frame.copy())  # the tracker keeps what it is given until the next frame
        lineage.write_text(json.dumps(tracker.lineage()), "utf-8")
        write_labels(target, stack, pixel_size_um=pixel_size_um, description={"axes": "TYX"})

    async with tools.stage("post-processing", 99):
        await tools.compute(link)
    entries = [(f"{base_name(tools.job)}_feature_0.tif", target), ("lineage.json", lineage)]
    view = View(tools, image, axis="T", layers=["tracks"], pixel_size_um=pixel_size_um)
    await each((view.labels(number, 0, frame) for number, frame in enumerate(stack)), _FRAMES)
    view.tracks(tracker.lineage())
    return await finish(tools, entries, view, facts)


def _check_length(frames: int, tools: Tools) -> None:
    most = tools.settings.limits.frames
    if not 2 <= frames <= most:
        raise InvalidInput(
            f"A movie needs 2 to {most} frames (KIOSK_LIMITS__FRAMES); this file has {frames}.", code="frames"
        )


def _reason(part: Job) -> str:
    return part.fields.get("reason") or part.status


def _shape(path: Path) -> tuple[int, ...]:
    return _labels(path).shape


def _read_into(target: NDArray[np.int32], path: Path) -> None:
    target[...] = _labels(path)


def _labels(path: Path) -> NDArray[Any]:
    with zipfile.ZipFile(path) as result:
        return np.asarray(tifffile.imread(io.BytesIO(result.read(result.namelist()[0]))))
