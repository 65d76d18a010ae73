"""Archives: each image in a .zip or .tar.gz becomes a job of its own; their results come back as one zip."""

from __future__ import annotations

import asyncio
import json
import posixpath
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urlencode

from services.consumer.clock import STAGES
from services.consumer.pipeline import IMAGES, Options, Pipeline
from services.consumer.reading import Member, Skipped, extract_member, list_members
from services.consumer.results import base_name
from services.consumer.tools import Tools, each
from services.consumer.worker import Done, Failed, Outcome, Split
from shared.errors import InvalidInput
from shared.jobs import Job, states

#: Members on their way into storage at once.
_MEMBERS = 8
#: Images of an archive of which previews are made: the first that was analysed is shown for all.
_SHOWN = 8
#: Facts of the archive that its images' jobs take over.
_INHERITED = ("options", "model", "model_version", "traceparent")
_PIECE = 1 << 20


class Archive(Pipeline[Options]):
    """Splits an archive into jobs of the type that it was submitted for, and gathers their results."""

    job_type = "archive"
    title = "Archive"
    description = "Runs another job type on every image of an archive."
    public = False
    accepts = (".zip", ".tar.gz", ".tgz")

    async def run(self, job: Job, tools: Tools) -> Outcome:
        """Split at the first claim; gather once every part has ended."""
        parts = await tools.parts()
        return await _gather(tools, parts) if parts else await _split(job, tools)


async def _split(job: Job, tools: Tools) -> Outcome:
    item_type = job.fields.get("item_type", "")
    if not item_type:
        raise InvalidInput("The archive's job does not say what to do with its images.", code="no-item-type")
    async with tools.stage("started", 0):
        source = await tools.fetch()
    limits = tools.settings.limits
    kind = (await tools.bench.store.types()).get(item_type)
    endings = kind.accepts if kind else IMAGES
    members, skipped = await tools.compute(
        list_members,
        source,
        endings,
        limits.archive_members,
        limits.archive_bytes,
        tools.scratch,
        stage="pre-processing",
    )
    if not members:
        raise InvalidInput(
            f"The archive holds no image; allowed are {', '.join(endings)}.{_told(skipped)}", code="no-image"
        )
    async with tools.stage("pre-processing", 0):
        stored = await each((_store(tools, source, member, n, endings) for n, member in enumerate(members)), _MEMBERS)
    skipped = [*skipped, *(answer for answer in stored if isinstance(answer, Skipped))]
    sound = [(name, member) for name, member in zip(stored, members, strict=True) if isinstance(name, str)]
    if not sound:
        raise InvalidInput(f"No image could be unpacked from the archive.{_told(skipped)}", code="damaged")
    inherited = {name: job.fields[name] for name in _INHERITED if name in job.fields}
    children = [
        (
            item_type,
            {
                **inherited,
                "input_file_name": name,
                "original_name": posixpath.basename(member.name),
                "member": member.name,
                **({} if number < _SHOWN else {"preview": "no"}),
            },
        )
        for number, (name, member) in enumerate(sound)
    ]
    spent = tools.clock.spent()
    facts = {
        "children_upload_time": f"{spent['preprocess']:.6f}",
        "skipped": json.dumps([[member.name, member.reason] for member in skipped], ensure_ascii=False),
    }
    return Split(children, facts)


def _told(skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return ""
    first = ", ".join(f"{member.name} ({member.reason})" for member in skipped[:3])
    return f" Left out: {first}{' and others' if len(skipped) > 3 else ''}."


async def _store(tools: Tools, source: Path, member: Member, number: int, endings: Sequence[str]) -> str | Skipped:
    """Put a member into storage and return its key; a damaged one is left out, and costs the others nothing."""
    path = tools.scratch / f"member-{number}"
    ending = next((ending for ending in endings if member.name.lower().endswith(ending)), "")
    try:
        await tools.compute(extract_member, source, member, path)
        return await tools.save(path, f"members/{number}{ending}", "application/octet-stream")
    except InvalidInput as error:
        return Skipped(member.name, str(error))
    finally:
        await asyncio.to_thread(path.unlink, missing_ok=True)


async def _gather(tools: Tools, parts: Sequence[Job]) -> Outcome:
    done = [part for part in parts if part.status == states.DONE]
    failures = {_member(part): part.fields.get("reason", part.status) for part in parts if part not in done}
    if not done:
        name, reason = next(iter(failures.items()))
        return Failed(
            f"None of the {len(parts)} images could be analysed. {name}: {reason}",
            {"failures": urlencode(failures, quote_via=quote)},
        )
    async with tools.stage("saving-results", 99):
        zipped = tools.scratch / "result.zip"
        fetched = await each((tools.fetch(part.fields["output_file_name"]) for part in done), _MEMBERS)
        names = [_member(part) for part in done]
        await tools.compute(merge, zipped, list(zip(names, fetched, strict=True)))
        output = await tools.save(zipped, f"{base_name(tools.job)}.zip", "application/zip")
    first = next((part.fields for part in done if "preview_file_name" in part.fields), {})
    shown = {name: first[name] for name in ("preview_file_name",) if name in first}
    return Done(
        {
            **tools.facts(),
            **_times(done),
            **shown,
            "total_jobs": str(len(parts)),
            "output_file_name": output,
            "output_url": tools.url(output),
            "failures": urlencode(failures, quote_via=quote),
        }
    )


def _member(part: Job) -> str:
    return part.fields.get("member") or part.fields.get("original_name") or part.id


def _times(done: Sequence[Job]) -> dict[str, str]:
    """Return each image's times as lists joined by commas, one entry for each finished image."""
    names = [*(f"{stage}_time" for stage in STAGES), "predict_retries"]
    facts = {name: ",".join(part.fields.get(name, "0") for part in done) for name in names}
    for name in ("dim_order", "scale"):
        used = {part.fields.get(name, "") for part in done}
        if len(used) == 1:
            facts[name] = used.pop()
    return facts


def merge(target: Path, results: Sequence[tuple[str, Path]]) -> None:
    """Put the entries of result zips into one, each under the folder that its image had in the archive.

    Args:
        target: zip to write.
        results: for each image its name in the archive and its result zip.
    """
    taken: set[str] = set()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as out:
        for member, path in results:
            with zipfile.ZipFile(path) as result:
                folder = _free_folder(member, result.namelist(), taken)
                for entry in result.infolist():
                    name = posixpath.join(folder, entry.filename)
                    taken.add(name)
                    with result.open(entry) as source, out.open(zipfile.ZipInfo(name), "w", force_zip64=True) as copy:
                        shutil.copyfileobj(source, copy, _PIECE)


def _free_folder(member: str, entries: Sequence[str], taken: set[str]) -> str:
    """Return where an image's results go: beside it, or in a folder of its full name where two would collide."""
    beside = posixpath.dirname(member)
    if not any(posixpath.join(beside, entry) in taken for entry in entries):
        return beside
    return next(
        folder
        for folder in (member if n == 1 else f"{member}-{n}" for n in range(1, len(taken) + 2))
        if not any(posixpath.join(folder, entry) in taken for entry in entries)
    )
