"""Spots alone: point-like signals such as single molecules in FISH images."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from services.consumer.dense import check_channels
from services.consumer.imaging.spots import SpotParams, detect_spots
from services.consumer.pipeline import Options, Pipeline
from services.consumer.pipelines.segmentation import Channels, Order, count_pixels, job_memory
from services.consumer.results import Entry, base_name, finish
from services.consumer.tools import Tools, each
from services.consumer.view import View
from services.consumer.worker import Outcome
from shared.jobs import Job

_PLANES = 4


class SpotSettings(Options):
    """How spots are found."""

    spot_sigma: float = Field(
        1.5, ge=0.5, le=20, title="Spot width", description="Standard deviation of a spot in pixels, 0.5 to 20."
    )
    threshold: float = Field(
        6, gt=0, le=1000, title="Threshold", description="Least contrast of a spot in standard deviations of the noise."
    )


class SpotOptions(SpotSettings):
    """Options of a spot detection."""

    dimension_order: Order = Field("", title="Dimension order", description="Such as XY or CXY; empty: worked out.")
    channels: Channels = Field((), title="Channels", description="Number of the channel with spots; empty: the first.")


class Spot(Pipeline[SpotOptions]):
    """A table of spots for each plane."""

    job_type = "spot"
    title = "Spots"
    description = "Finds point-like signals and lists their positions."
    rank = 40
    Options = SpotOptions

    async def run(self, job: Job, tools: Tools) -> Outcome:
        """Read, find, store tables."""
        options = self.options(job)
        decoded = await tools.image(options.dimension_order)
        image = decoded.open()
        check_channels(options.channels, image.shape[1])
        channels = options.channels or (0,)
        view = View(tools, image, decoded, channel=channels[0], layers=())
        planes = [(b, place) for b in range(image.shape[0]) for place in range(len(channels))]
        done = 0

        async def plane(b: int, place: int) -> list[Entry]:
            nonlocal done
            found = await detect(tools, image[b, channels[place]], options)
            several = f"_feature_{place}" if len(channels) > 1 else ""
            if place == 0:
                await view.points(b, found)
            entries = await tools.compute(_tables, tools.scratch, f"{base_name(job)}_{b}{several}", found)
            done += 1
            await tools.tell("predicting", 10 + 80 * done // len(planes))
            return entries

        async with tools.bench.memory.reserve(job_memory(decoded)):
            await tools.tell("predicting", 10)
            tables = await each((plane(b, place) for b, place in planes), _PLANES)
        count_pixels(job, image, len(planes))
        entries = [entry for pair in tables for entry in pair]
        facts = {"dim_order": decoded.dim_order, "scale": "1"}
        return await finish(tools, entries, view, facts)


async def detect(tools: Tools, plane: NDArray[Any], options: SpotSettings) -> NDArray[np.float64]:
    """Return the spots of a plane (H, W): float64 (n, 2) of y and x in pixels."""
    params = SpotParams(sigma=options.spot_sigma, threshold=options.threshold)
    return (await tools.compute(detect_spots, plane, params, stage="predicting")).positions


def _tables(folder: Path, name: str, spots: NDArray[np.float64]) -> list[Entry]:
    table, array = folder / f"{name}.csv", folder / f"{name}.npy"
    write_table(table, spots, {})
    np.save(array, spots)
    return [(table.name, table), (array.name, array)]


def write_table(path: Path, spots: NDArray[np.float64], cells: dict[str, NDArray[np.int32]]) -> None:
    """Write spots, float (n, 2) of y and x, as CSV: ``x,y`` and one column for each cell numbering."""
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["x", "y", *cells])
        columns = [ids.tolist() for ids in cells.values()]
        for row, (y, x) in enumerate(spots.tolist()):
            writer.writerow([f"{x:.3f}", f"{y:.3f}", *(column[row] for column in columns)])
