"""Tracking: the frames of a movie are segmented in parallel as parts, then linked, with divisions."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import tifffile
from numpy.typing import NDArray
from pydantic import Field

from services.consumer.dense import check_channels, choose_zoom
from services.consumer.imaging.labels import relabel
from services.consumer.imaging.tracking import Tracker, TrackingParams
from services.consumer.pipeline import IMAGES, Pipeline
from services.consumer.pipelines.segmentation import Channels, ImageOptions, likely_channel
from services.consumer.reading import Decoded
from services.consumer.results import base_name, finish
from services.consumer.tools import Tools, each
from services.consumer.trk import ENDINGS, read_trk
from services.consumer.view import Frames, View
from services.consumer.worker import Failed, Outcome, Split
from services.consumer.writing import write_labels
from shared.errors import InvalidInput
from shared.jobs import Job, states

#: Parts of a movie, at most: each segments a run of frames, so that a long movie does not pay for a job with each.
_PARTS = 128
#: Files on their way into or out of storage, or runs of frames into the view, at once.
_AT_ONCE = 8
#: Frames that are linked in one go where they came with their labels.
_RUN = 16
#: Reads the labels of a run of frames, (n, Y, X).
Read = Callable[[], NDArray[Any]]
#: A movie's tracked stack, int32 (T, Y, X), and its lineage.
Movie = tuple[NDArray[np.int32], dict[str, dict[str, Any]]]


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
    numbers, length = range(len(frames)), -(-len(frames) // _PARTS)
    runs = [numbers[first : first + length] for first in numbers[::length]]
    keys = await each((_store(tools, frames[run.start : run.stop], run) for run in runs), _AT_ONCE)
    inherited = {name: job.fields[name] for name in ("model", "model_version", "traceparent") if name in job.fields}
    # One scale for all frames: a size that is estimated anew on each would make cells flicker.
    chosen = {"options": json.dumps({"dimension_order": "TYX", "channels": [0], "scale": min(10, max(0.1, zoom))})}
    about = {**inherited, **chosen, "handover": "labels"}
    children = [
        ("segmentation", {**about, "input_file_name": key, "original_name": _name(run)})
        for key, run in zip(keys, runs, strict=True)
    ]
    size = f"{decoded.pixel_size_um:g}" if decoded.pixel_size_um else ""
    return Split(children, {"dim_order": decoded.dim_order, "scale": f"{zoom:g}", "pixel_size_um": size})


def _name(run: range) -> str:
    return f"frame-{run[0]}" if len(run) == 1 else f"frames-{run[0]}-{run[-1]}"


async def _store(tools: Tools, frames: NDArray[Any], run: range) -> str:
    path = tools.scratch / f"{_name(run)}.npy"
    await tools.compute(np.save, path, frames)
    try:
        return await tools.save(path, f"frames/{run.start}.npy", "application/octet-stream")
    finally:
        path.unlink()


async def _gather(job: Job, tools: Tools, options: TrackingOptions, parts: Sequence[Job]) -> Outcome:
    """Link the labels of all frames; frames that failed are empty and are told."""
    failures = {part.fields["original_name"]: _reason(part) for part in parts if part.status != states.DONE}
    if len(failures) == len(parts):
        told = {"failures": urlencode(failures, quote_via=quote)}
        return Failed(f"No frame could be segmented: {next(iter(failures.values()))}", told)
    raw = await each((tools.fetch(part.fields["input_file_name"]) for part in parts), _AT_ONCE)
    frames = await tools.compute(Frames, raw)

    async def labels(part: Job, length: int) -> Read:
        if part.status != states.DONE:
            return functools.partial(np.zeros, (length, *frames[0].shape[1:]), np.int32)
        return functools.partial(_labels, await tools.fetch(part.fields["output_file_name"]), length)

    reads = await each((labels(*pair) for pair in zip(parts, frames.lengths, strict=True)), _AT_ONCE)
    pixel_size = float(job.fields.get("pixel_size_um") or 0) or None
    facts = {
        "failures": urlencode(failures, quote_via=quote),
        "total_jobs": str(len(parts)),
        "prediction_time": f"{sum(float(part.fields.get('prediction_time', '0')) for part in parts):.6f}",
    }
    view = View(tools, frames, axis="T", layers=["tracks"], pixel_size_um=pixel_size)
    movie = await _linked(tools, options, reads, (len(frames), *frames[0].shape[1:]), view)
    return await _finish(tools, [movie], view, pixel_size, facts)


def _labels(path: Path, length: int) -> NDArray[Any]:
    labels = np.asarray(tifffile.imread(path))
    return labels.reshape(length, *labels.shape[-2:])


async def _link_segmented(tools: Tools, options: TrackingOptions, source: Path) -> Outcome:
    """Link movies that came with their labels, one after the other; the first is shown."""
    async with tools.stage("pre-processing", 5):
        found = await tools.compute(read_trk, source, tools.scratch, tools.settings.limits)
        _check_length(len(found[0].labels), tools)  # in one file all have as many
    size = options.pixel_size_um
    view = View(tools, found[0].raw[:, np.newaxis], axis="T", layers=["tracks"], pixel_size_um=size)
    movies = []
    for number, movie in enumerate(found):
        runs = (movie.labels[first : first + _RUN] for first in range(0, len(movie.labels), _RUN))
        reads = [functools.partial(_numbered, run) for run in runs]
        movies.append(await _linked(tools, options, reads, movie.labels.shape, None if number else view, number))
    return await _finish(tools, movies, view, size, {"dim_order": "TYX" if len(found) == 1 else "BTYX", "scale": "1"})


def _numbered(frames: NDArray[Any]) -> NDArray[np.int32]:
    """Number the labels of each frame anew, whatever numbers somebody gave them; below 0 is background."""
    return np.stack([relabel(np.maximum(frame, 0)) for frame in frames])


async def _linked(
    tools: Tools,
    options: TrackingOptions,
    reads: Sequence[Read],
    shape: tuple[int, ...],
    view: View | None,
    number: int = 0,
) -> Movie:
    """Link the frames of a movie (T, Y, X), and meanwhile put those that are linked into the view."""
    tracker = Tracker(TrackingParams(**options.model_dump(include={field.name for field in fields(TrackingParams)})))
    stack = tools.labels(shape, f"stack-{number}")
    turn, linked = asyncio.Lock(), 0

    async def link(read: Read) -> None:
        nonlocal linked
        async with turn:  # which is given in the order in which it was asked for
            first = linked
            linked += await tools.compute(_link, tracker, read, stack[first:])
            last = linked
        if view:
            await view.labels(first, 0, stack[first:last])

    async with tools.stage("post-processing", 99):
        await each((link(read) for read in reads), _AT_ONCE)
    if view:
        view.tracks(tracker.lineage())
    return stack, tracker.lineage()


def _link(tracker: Tracker, read: Read, target: NDArray[np.int32]) -> int:
    """Link the frames that are read, put their tracks to the beginning of the target, and return how many they are."""
    labels = read()
    for frame, tracks in zip(labels, target, strict=False):
        tracks[...] = tracker.add(np.ascontiguousarray(frame, np.int32))
    return len(labels)


async def _finish(
    tools: Tools, movies: Sequence[Movie], view: View, pixel_size_um: float | None, facts: Mapping[str, str]
) -> Outcome:
    """Store the tracked stack of each movie and the lineage, of several movies as a list, as .trks files have it."""
    told = {**tools.job.fields, **facts}
    about = {name: told[name] for name in ("dim_order", "scale") if name in told} | {"objects": "tracks"}
    entries = []
    async with tools.stage("post-processing", 99):
        for number, (stack, _) in enumerate(movies):
            path = tools.scratch / f"tracked-{number}.tif"
            await tools.compute(_write, path, stack, pixel_size_um, about)
            one = f"_batch_{number}" if len(movies) > 1 else ""
            entries.append((f"{base_name(tools.job)}{one}_feature_0.tif", path))
    lineages = [lineage for _, lineage in movies]
    path = tools.scratch / ("lineages.json" if len(movies) > 1 else "lineage.json")
    path.write_text(json.dumps(lineages if len(movies) > 1 else lineages[0]), "utf-8")
    return await finish(tools, [*entries, (path.name, path)], view, facts)


def _write(path: Path, stack: NDArray[np.int32], pixel_size_um: float | None, about: Mapping[str, str]) -> None:
    write_labels(path, stack, pixel_size_um=pixel_size_um, description=about)


def _check_length(frames: int, tools: Tools) -> None:
    most = tools.settings.limits.frames
    if not 2 <= frames <= most:
        raise InvalidInput(
            f"A movie needs 2 to {most} frames (KIOSK_LIMITS__FRAMES); this file has {frames}.", code="frames"
        )


def _reason(part: Job) -> str:
    return part.fields.get("reason") or part.status
