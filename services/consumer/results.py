"""What a job leaves: label images and tables in a zip, a view, and the facts that name them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from services.consumer.tools import Tools
from services.consumer.view import View
from services.consumer.worker import Done
from services.consumer.writing import write_zip
from shared.jobs import Job

Entry = tuple[str, Path]

#: Bytes of a name of results: with what is put behind it, no more than file systems and buckets take.
_LONGEST = 200


def base_name(job: Job) -> str:
    """Return what a job's results are called after: its input, without folder and ending, as far as there is room."""
    return _stem(job).encode("utf-8", "replace")[:_LONGEST].decode(errors="ignore")


def _stem(job: Job) -> str:
    name = PurePosixPath(job.fields.get("original_name", "").replace("\\", "/")).name or "image"
    lowered = name.lower()
    for ending in (".ome.tif", ".ome.tiff", ".ome.btf", ".ome.zarr.zip", ".zarr.zip", ".tar.gz"):
        if lowered.endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)]
    return PurePosixPath(name).stem


async def finish(
    tools: Tools, entries: Sequence[Entry], view: View | None, facts: Mapping[str, str] | None = None
) -> Done:
    """Zip and store the results of a job, and return its end.

    Args:
        tools: of the job.
        entries: names in the zip and files, in the order in which clients expect them.
        view: what to show of it; None for nothing.
        facts: what else was found out.
    """
    async with tools.stage("saving-results", 90):
        output, shown = await asyncio.gather(_save_zip(tools, entries), _save_view(view))
    return _done(tools, output, {**shown, **(facts or {})})


async def hand_over(tools: Tools, path: Path, facts: Mapping[str, str]) -> Done:
    """Store one file, as it is, for the job that this one is a part of, and return this one's end."""
    async with tools.stage("saving-results", 90):
        output = await tools.save(path, path.name, "application/octet-stream")
    return _done(tools, output, facts)


def _done(tools: Tools, output: str, facts: Mapping[str, str]) -> Done:
    about = {"output_file_name": output, "output_url": tools.url(output), "failures": ""}
    return Done({**tools.facts(), **about, **facts})


async def _save_zip(tools: Tools, entries: Sequence[Entry]) -> str:
    zipped = tools.scratch / "result.zip"
    await tools.compute(write_zip, zipped, entries)
    return await tools.save(zipped, f"{base_name(tools.job)}.zip", "application/zip")


async def _save_view(view: View | None) -> dict[str, str]:
    return {} if view is None else await view.save()
