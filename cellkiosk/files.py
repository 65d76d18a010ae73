"""Local files and options, as a command line names them."""

from __future__ import annotations

import asyncio
import glob
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellkiosk.aio import AsyncJob
from cellkiosk.errors import BadFile
from cellkiosk.models import JobInfo
from cellkiosk.results import unpack as unpack_result
from cellkiosk.sending import Progress

ENDINGS = (".tif", ".tiff", ".btf", ".tf8", ".png", ".jpg", ".jpeg", ".npy", ".npz", ".zip", ".tar.gz", ".tgz", ".ozx")
"""Of the files that are taken from a folder."""


def expanded(names: Sequence[str]) -> list[Path]:
    """Return the files that the words of a command line name: files, folders (all images in them), patterns.

    Raises:
        BadFile: one names nothing.
    """
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = sorted(one for one in path.rglob("*") if one.is_file() and one.name.lower().endswith(ENDINGS))
            if not inside:
                raise BadFile(f"The folder {name} holds no image ({', '.join(ENDINGS)}).")
        elif path.exists():
            inside = [path]
        else:
            matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207  # absolute patterns too
            inside = [Path(one) for one in matches if Path(one).is_file()]
            if not inside:
                raise BadFile(f"There is no file {name}.")
        found.update(dict.fromkeys(inside))
    return list(found)


def options_of(file: str | None, pairs: Sequence[str]) -> dict[str, Any]:
    """Return the options from a JSON file and from words such as ``scale=2`` or ``dimension_order=TYX``.

    Raises:
        BadFile: the file holds no JSON object, or a word has no ``=``.
    """
    options: dict[str, Any] = {}
    if file is not None:
        try:
            options = json.loads(Path(file).read_text())
        except OSError as error:
            raise BadFile(f"The options file {file} cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise BadFile(f"The options file {file} is not JSON: {error}.") from error
        if not isinstance(options, dict):
            raise BadFile(f"The options file {file} must hold a JSON object.")
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise BadFile(f"The option {pair!r} must be NAME=VALUE.")
        options[name] = _value(value)
    return options


async def fetch(job: AsyncJob, info: JobInfo, out: Path, *, unpack: bool, progress: Progress | None = None) -> Path:
    """Write a job's result into a folder, as a zip or unpacked; return where, which is new.

    Raises:
        JobFailed: there is none.
        BadFile: it cannot be written.
    """
    stem = Path(info.name).stem or info.id.partition(":")[2]
    if not unpack:
        return await job.result(_unused(out / f"{stem}.zip"), progress=progress)
    folder = _unused(out / stem)
    archive = await job.result(_unused(out / f"{stem}.zip"), progress=progress)
    try:
        await asyncio.to_thread(unpack_result, archive, folder)
    finally:
        archive.unlink()
    return folder


def _unused(path: Path) -> Path:
    """Return the path, numbered if there is something already: two images may have one name in two folders."""
    number = 2
    chosen = path
    while chosen.exists():
        chosen = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return chosen


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
