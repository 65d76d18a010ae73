"""What a job leaves: label images and tables in a zip, a preview, and the facts that name them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.consumer.tools import Tools
from services.consumer.worker import Done
from services.consumer.writing import write_preview, write_zip
from shared.jobs import Job

Entry = tuple[str, Path]


@dataclass(frozen=True)
class Preview:
    """What the page shows: one plane of the image, (H, W), and its labels, int32 (H, W), or None."""

    image: NDArray[Any]
    labels: NDArray[np.int32] | None


def base_name(job: Job) -> str:
    """Return the name of a job's input without folder and ending: what its results are called after."""
    name = PurePosixPath(job.fields.get("original_name", "").replace("\\", "/")).name or "image"
    lowered = name.lower()
    for ending in (".ome.tif", ".ome.tiff", ".ome.btf", ".zarr.zip", ".tar.gz"):
        if lowered.endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)]
    return PurePosixPath(name).stem


async def finish(
    tools: Tools, entries: Sequence[Entry], preview: Preview | None, facts: Mapping[str, str] | None = None
) -> Done:
    """Zip and store the results of a job, and return its end.

    Args:
        tools: of the job.
        entries: names in the zip and files, in the order in which clients expect them.
        preview: what to show of it; None for nothing.
        facts: what else was found out.
    """
    async with tools.stage("saving-results", 90):
        zipped = tools.scratch / "result.zip"
        await tools.compute(write_zip, zipped, entries)
        output, shown = await asyncio.gather(
            tools.save(zipped, f"{base_name(tools.job)}.zip", "application/zip"), _save_preview(tools, preview)
        )
    return Done(
        {
            **tools.facts(),
            "output_file_name": output,
            "output_url": tools.url(output),
            "failures": "",
            **shown,
            **(facts or {}),
        }
    )


async def _save_preview(tools: Tools, preview: Preview | None) -> dict[str, str]:
    if preview is None or tools.job.fields.get("preview") == "no":
        return {}
    image, labels = await tools.compute(write_preview, preview.image, preview.labels, tools.scratch)
    facts = {"preview_file_name": await tools.save(image, "preview.png", "image/png")}
    if labels is not None:
        facts["labels_file_name"] = await tools.save(labels, "labels.png", "image/png")
    return facts
