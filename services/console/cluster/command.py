"""The command ``kiosk cluster``: what will be done is shown and confirmed first."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from urllib.parse import quote

import aiohttp

from services.console import output
from services.console.cluster import leftovers
from services.console.cluster.cloud import Cloud, InUse, Refused, token
from services.console.cluster.leftovers import Leftover
from services.console.cluster.shape import NAMESPACE, Shape
from services.console.cluster.steps import Step, check, steps
from services.console.up.plan import ROOT
from shared.errors import Misconfigured, NotFound, Retry

#: Rounds in which what something else still refers to is tried again, and s between two.
ROUNDS = 6
PAUSE = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what ``kiosk cluster`` can be told."""
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    texts = {
        "create": "make the cluster, its bucket and its account, and install the chart; goes on where it stopped",
        "destroy": "remove what create made, in order; the bucket is kept unless --bucket is given",
        "status": "tell what of it there is",
        "clean": "find and delete what a failed creation or destruction left behind",
    }
    for name, text in texts.items():
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("name", help="of the cluster")
        action.add_argument("--project", default=os.environ.get("GOOGLE_CLOUD_PROJECT", ""), help="of Google Cloud")
        action.add_argument("--location", default="us-west1-a", help="zone, or region (default %(default)s)")
        if name != "status":
            action.add_argument("--yes", action="store_true", help="do not ask")
        if name in ("destroy", "clean"):
            action.add_argument("--bucket", action="store_true", help="delete the bucket too, with all that it holds")
        if name == "clean":
            action.add_argument("--dry-run", action="store_true", help="only show what is left")
        if name == "create":
            _shape_arguments(action)


def _shape_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--machine", default="n1-standard-4", help="of system and consumer nodes (default %(default)s)")
    parser.add_argument("--gpu-machine", default="n1-highmem-2", help="of GPU nodes (default %(default)s)")
    parser.add_argument("--gpu", default="nvidia-tesla-t4", help="accelerator, or '' for none (default %(default)s)")
    parser.add_argument("--gpus", type=int, default=1, help="most GPU nodes (default %(default)s)")
    parser.add_argument("--consumers", type=int, default=10, help="most consumer nodes (default %(default)s)")
    parser.add_argument("--spot", action="store_true", help="GPU nodes as spot machines")
    parser.add_argument("--no-chart", action="store_true", help="make the cluster only")


def main(options: argparse.Namespace) -> int:
    """Do what was asked; for clean, the exit code is 1 while anything is left."""
    shape = _shape(options)
    return asyncio.run(_main(options, shape))


def _shape(options: argparse.Namespace) -> Shape:
    names = ("name", "project", "location", "machine", "gpu_machine", "gpu", "gpus", "consumers", "spot")
    return Shape(**{name: getattr(options, name) for name in names if hasattr(options, name)})


async def _main(options: argparse.Namespace, shape: Shape) -> int:
    async with _cloud(shape) as cloud:
        if options.action == "create":
            return await _create(cloud, shape, options)
        if options.action == "status":
            return await _status(cloud, shape)
        return await _remove(cloud, shape, options)


@asynccontextmanager
async def _cloud(shape: Shape) -> AsyncIterator[Cloud]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as http:
        yield Cloud(http, shape.project, token(), os.environ.get("KIOSK_GCP_API", ""))


async def _create(cloud: Cloud, shape: Shape, options: argparse.Namespace) -> int:
    made = steps(cloud, shape)
    output.say(f"To be made in the project {shape.project}, unless it is there already:")
    for step in made:
        output.say(f"  {step.title}")
    if not options.no_chart:
        output.say(f"  the chart, as the release {shape.name} in the namespace {NAMESPACE}")
    for warning in await check(cloud, shape):
        output.say(f"warning   {warning}")
    if not _agreed(options):
        return 1
    chart = [] if options.no_chart else _chart_commands(shape)
    for step in made:
        if await step.there():
            output.say(f"is there  {step.title}")
            continue
        output.say(f"making    {step.title}")
        await step.make()
    for command in chart:
        _run(command, shape)
    output.say(f"The cluster {shape.name} is ready. `kiosk forward frontend --namespace {NAMESPACE}` shows its page.")
    return 0


def _chart_commands(shape: Shape) -> list[list[str]]:
    """Return the commands that install the chart, having seen that their programs are there."""
    for program in ("gcloud", "helm"):
        if shutil.which(program) is None:
            raise Misconfigured(f"To install the chart, {program} is needed on PATH; --no-chart leaves the chart out.")
    place = ["--location", shape.location, "--project", shape.project]
    return [
        ["gcloud", "container", "clusters", "get-credentials", shape.name, *place],
        [
            *("helm", "upgrade", "--install", shape.name, str(ROOT / "helm" / "cellkiosk")),
            *("--namespace", NAMESPACE, "--create-namespace", "--wait", "--values", "-"),
        ],
    ]


def _run(command: Sequence[str], shape: Shape) -> None:
    output.say(f"$ {' '.join(command)}")
    if subprocess.run(command, input=json.dumps(shape.values()), text=True, check=False).returncode:
        raise Retry(f"{command[0]} failed; the same `kiosk cluster create` goes on from here.")


async def _status(cloud: Cloud, shape: Shape) -> int:
    rows = [("there" if await step.there() else "missing", step.title) for step in _known(cloud, shape)]
    output.table(f"Cluster {shape.name}", ("", ""), rows)
    try:
        cluster = await cloud.call("GET", "container", f"{shape.parent}/{shape.name}")
    except NotFound:
        return 1
    output.say(f"\n{cluster.get('status', 'UNKNOWN')}, {cluster.get('currentNodeCount', 0)} nodes")
    return 0


def _known(cloud: Cloud, shape: Shape) -> list[Step]:
    return [step for step in steps(cloud, shape) if step.title.startswith(("bucket", "service account", "cluster"))]


async def _remove(cloud: Cloud, shape: Shape, options: argparse.Namespace) -> int:
    found = await leftovers.find(cloud, shape)
    kept = [one for one in found if one.kind == "bucket" and not options.bucket]
    going = [one for one in found if one not in kept]
    if options.action == "clean":  # a cluster that stands is not left behind
        standing = [one for one in going if one.kind == "cluster"]
        if standing:
            output.say(f"The cluster {shape.name} stands: `kiosk cluster destroy` removes it and what belongs to it.")
            return 1
    _show(going)
    if not going:
        output.say(_kept(kept) or "Nothing is left.")
        return 0
    if getattr(options, "dry_run", False) or not _agreed(options):
        return 1
    left = await _delete(cloud, shape, going, kept)
    if kept:
        output.say(_kept(kept))
    for one, why in left:
        output.say(f"left      {one.kind} {one.name}: {why}")
    return 1 if left else 0


def _show(found: Sequence[Leftover]) -> None:
    if found:
        output.table("To be deleted", ("what", "name", "price"), [(one.kind, one.name, one.price) for one in found])
        total = sum(one.month or 0.0 for one in found)
        output.say(f"\nTogether at least ${total:.2f} a month.")


def _kept(kept: Sequence[Leftover]) -> str:
    names = ", ".join(one.name for one in kept)
    return f"Kept: the bucket {names} with your images and results; --bucket deletes it too." if kept else ""


async def _delete(
    cloud: Cloud, shape: Shape, going: Sequence[Leftover], kept: Sequence[Leftover]
) -> list[tuple[Leftover, str]]:
    """Delete in order; what is still referred to is tried again. Return what is left, and why."""
    left = [(one, "") for one in going]
    for number in range(ROUNDS):
        left = [(one, why) for one, _ in left if (why := await _delete_one(cloud, one))]
        # The end of a cluster sets free what it used, and shows what it did not remove.
        fresh = await leftovers.find(cloud, shape)
        known = {one.path for one, _ in left} | {one.path for one in kept}
        left += [(one, "found only now") for one in fresh if one.path not in known]
        if all(why.startswith(_REFUSED) for _, why in left):
            break
        if number < ROUNDS - 1:
            await asyncio.sleep(PAUSE)
    return left


#: How the sentence begins that trying again cannot change.
_REFUSED = "Google Cloud refuses"


async def _delete_one(cloud: Cloud, one: Leftover) -> str:
    """Delete one thing; return why it could not be, or ''."""
    try:
        if one.kind == "bucket":
            await _empty(cloud, one)
        await cloud.change("DELETE", one.service, one.path)
    except NotFound:
        return ""
    except (InUse, Refused, Retry) as error:
        return str(error)
    output.say(f"deleted   {one.kind} {one.name}")
    return ""


async def _empty(cloud: Cloud, bucket: Leftover) -> None:
    """Only empty buckets can be deleted."""
    path = f"{bucket.path}/o"
    names = [
        item["name"] async for item in cloud.pages("storage", path, "items", {"fields": "items(name),nextPageToken"})
    ]
    for name in names:
        await cloud.change("DELETE", "storage", f"{path}/{_quoted(name)}")


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _agreed(options: argparse.Namespace, ask: Callable[[str], str] = input) -> bool:
    if options.yes:
        return True
    if not sys.stdin.isatty():
        raise Misconfigured("Nobody is there to be asked; say --yes if you mean it.")
    return ask("\nGo on? [y/N] ").strip().lower() in ("y", "yes")
