"""``kiosk``: send images, follow jobs, fetch results."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from cellkiosk import __version__, files
from cellkiosk.aio import AsyncClient
from cellkiosk.completion import script, words_of
from cellkiosk.errors import BadFile, JobFailed, KioskError, NotAllowed, Refused, Unreachable
from cellkiosk.models import Event, JobInfo
from cellkiosk.progress import Board, note_of
from cellkiosk.submitting import Order, Outcome, Submission

Command = Callable[[AsyncClient, argparse.Namespace], Awaitable[int]]

_CODES = """\
exit codes:
  0    all is well
  1    a job failed or was canceled
  2    the call is wrong, or the server refused what was sent
  3    the server cannot be reached or is in trouble
  4    not allowed: the API key is missing, wrong, or lacks a right
  130  interrupted
"""
_TOLD = ("id", "status", "progress", "position", "eta", "reason")
_STATUSES = ("new", "started", "waiting", "done", "failed", "canceled")


def main(words: Sequence[str] | None = None) -> int:
    """Carry out a command line; return its exit code."""
    options = parser().parse_args(words)
    try:
        if options.command == "completion":
            sys.stdout.write(script(options.shell, words_of(parser())))
            return 0
        return asyncio.run(_run(options))
    except KioskError as error:
        sys.stderr.write(f"kiosk: {error}\n")
        return _code(error)
    except KeyboardInterrupt:
        goes_on = "the same call goes on where it stopped" if options.command == "get" else "submitted jobs go on"
        sys.stderr.write(f"\nkiosk: interrupted; {goes_on}: see `kiosk ls`.\n")
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # `kiosk ls | head`
        return 0


async def _run(options: argparse.Namespace) -> int:
    async with AsyncClient(options.url, _key(options.key_file), patience=options.patience) as client:
        command: Command = options.run
        return await command(client, options)


def _code(error: KioskError) -> int:
    match error:
        case NotAllowed():
            return 4
        case Refused() if error.status < 500 and error.status != 429:
            return 2
        case Refused() | Unreachable():
            return 3
        case JobFailed():
            return 1
    return 2


def _key(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise BadFile(f"The key file {path} cannot be read: {error.strerror}.") from error


# -- commands --


async def _submit(client: AsyncClient, options: argparse.Namespace) -> int:
    paths = files.expanded(options.files)
    order = Order(options.type, files.options_of(options.options_file, options.option), *_model(options.model))
    wait = options.wait or options.out is not None
    board = Board(quiet=options.quiet or (options.json and not sys.stderr.isatty()))
    submission = Submission(client, board, order, priority=options.priority, parallel=options.parallel)
    outcomes = await submission.run(paths, wait=wait, out=_folder(options.out), unpack=options.unpack)
    for outcome in outcomes:
        _tell_outcome(outcome, as_json=options.json)
    return max((outcome.code for outcome in outcomes), default=0)


async def _watch(client: AsyncClient, options: argparse.Namespace) -> int:
    last: dict[str, Event] = {}
    board = Board(quiet=options.json)
    for job_id in options.ids:
        await client.job(job_id).refresh()  # an unknown one is told before anything else
    rows = {job_id: board.add(job_id) for job_id in options.ids}
    async for event in client.watch(options.ids):
        last[event.id] = event
        if options.json:
            _line({name: getattr(event, name) for name in _TOLD})
        else:
            board.set(rows[event.id], event.status, event.progress, note_of(event))
    return 0 if all(event.status == "done" for event in last.values()) else 1


async def _ls(client: AsyncClient, options: argparse.Namespace) -> int:
    jobs = client.jobs(status=options.status or "", type=options.type or "")
    async for info in _first(jobs, options.limit):
        if options.json:
            _line(dict(info.raw))
        else:
            made = info.created_at[:19].replace("T", " ")
            print(f"{info.id:<48} {info.status:<15} {info.progress:>3} %  {made}  {info.name}")
    return 0


async def _get(client: AsyncClient, options: argparse.Namespace) -> int:
    out = _folder(options.out)
    assert out is not None
    board = Board(quiet=options.quiet or options.json)

    async def get(job_id: str) -> dict[str, Any]:
        row = board.add(job_id)

        def told(at: int, size: int) -> None:
            board.set(row, "downloading", 100.0 * at / max(1, size))

        info = await client.job(job_id).refresh()
        path = await files.fetch(client.job(job_id), info, out, unpack=options.unpack, progress=told)
        board.set(row, "done", 100, str(path))
        return {"id": job_id, "result": str(path)}

    return await _each(options, get, lambda said: str(said["result"]))


async def _cancel(client: AsyncClient, options: argparse.Namespace) -> int:
    async def cancel(job_id: str) -> dict[str, Any]:
        return {"id": job_id, "canceled": await client.job(job_id).cancel()}

    said = {True: "canceled", False: "had ended already"}
    return await _each(options, cancel, lambda told: f"{told['id']}: {said[told['canceled']]}")


async def _each(
    options: argparse.Namespace, call: Callable[[str], Awaitable[dict[str, Any]]], text: Callable[[dict[str, Any]], str]
) -> int:
    """Do something for each of the jobs that are named; one that fails keeps no other from its turn."""
    code = 0
    for job_id in options.ids:
        try:
            told = await call(job_id)
        except (Unreachable, NotAllowed):
            raise
        except KioskError as error:
            code = max(code, _code(error))
            told = {"id": job_id, "error": str(error)}
        if options.json:
            _line(told)
        elif "error" in told:
            sys.stderr.write(f"kiosk: {job_id}: {told['error']}\n")
        else:
            print(text(told))
    return code


async def _models(client: AsyncClient, options: argparse.Namespace) -> int:
    kinds, models = await client.job_types(), await client.models()
    if options.json:
        _line({"models": models, "job_types": [{"name": kind.name, "options": dict(kind.options)} for kind in kinds]})
        return 0
    print("job types" if kinds else "No job type is on offer: no consumer runs.")
    for kind in kinds:
        names = ", ".join((kind.name, *kind.aliases))
        print(f"  {names:<28} {kind.title}{f' (model {kind.model})' if kind.model else ''}")
        for name, schema in kind.options.get("properties", {}).items():
            print(f"      --option {name}=…  {schema.get('title', '')} {schema.get('description', '')}".rstrip())
    print("models")
    for name, versions in models.items():
        print(f"  {name:<28} version {', '.join(versions)}")
    return 0


# -- parts of them --


async def _first(jobs: AsyncIterator[JobInfo], limit: int) -> AsyncIterator[JobInfo]:
    left = limit
    async for info in jobs:
        yield info
        left -= 1
        if not left:
            return


def _tell_outcome(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        _line(outcome.told())
    elif outcome.error:
        sys.stderr.write(f"kiosk: {outcome.path}: {outcome.error}\n")
    else:
        print(outcome.result or outcome.job_id)


def _line(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _model(text: str) -> tuple[str, str]:
    name, _, version = text.partition(":")
    return name, version


def _folder(out: str | None) -> Path | None:
    if out is None:
        return None
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadFile(f"The folder {out} cannot be made: {error.strerror}.") from error
    return folder


# -- the command line --


def parser() -> argparse.ArgumentParser:
    """Return what understands the command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--url", help="address of the server (KIOSK_URL; http://127.0.0.1:8080)")
    common.add_argument("--key-file", metavar="FILE", help="file that holds the API key (else KIOSK_API_KEY)")
    common.add_argument("--patience", type=_seconds, default=120.0, metavar="S", help="s to try while a server is away")
    made = argparse.ArgumentParser(prog="kiosk", description="Use a CellKiosk server.", epilog=_CODES)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument("--version", action="version", version=f"kiosk {__version__}")
    commands = made.add_subparsers(title="commands", dest="command", metavar="command", required=True)

    def add(name: str, run: Command, text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text, parents=[common])
        one.set_defaults(run=run)
        return one

    _add_submit(add("submit", _submit, "send images and fetch their results"))
    watch = add("watch", _watch, "follow jobs until they end")
    _add_ids(watch)
    watch.add_argument("--json", action="store_true", help="one line of JSON for each change")
    ls = add("ls", _ls, "list your jobs, newest first")
    ls.add_argument("--status", choices=_STATUSES, help="only those")
    ls.add_argument("--type", help="only jobs of this type")
    ls.add_argument("--limit", type=_number, default=50, metavar="N", help="at most so many (50)")
    ls.add_argument("--json", action="store_true", help="one line of JSON for each job")
    get = add("get", _get, "fetch results")
    _add_ids(get)
    get.add_argument("--out", default=".", metavar="DIR", help="folder to write to (.)")
    get.add_argument("--unpack", action="store_true", help="unpack each into a folder of its own")
    get.add_argument("--quiet", action="store_true", help="no progress")
    get.add_argument("--json", action="store_true", help="one line of JSON for each job")
    cancel = add("cancel", _cancel, "give jobs up")
    _add_ids(cancel)
    cancel.add_argument("--json", action="store_true", help="one line of JSON for each job")
    models = add("models", _models, "list what can be done, with which options and models")
    models.add_argument("--json", action="store_true", help="as JSON")
    completion = commands.add_parser("completion", help="print the completion script of a shell")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    return made


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _number(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _add_ids(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="+", metavar="ID", help="id of a job, as `kiosk ls` shows it")


def _add_submit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="images, archives, folders or patterns such as '*.tif'"
    )
    parser.add_argument("--type", help="job type (the server's default)")
    parser.add_argument("--model", default="", metavar="NAME[:VERSION]", help="another model than the job type's own")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the job type")
    parser.add_argument("--options-file", metavar="FILE", help="options as a JSON object")
    parser.add_argument("--priority", type=int, default=0, metavar="N", help="-100 to 100; higher goes first")
    parser.add_argument("--wait", action="store_true", help="wait until the jobs have ended")
    parser.add_argument("--out", metavar="DIR", help="wait, and write the results to this folder")
    parser.add_argument("--unpack", action="store_true", help="with --out: unpack each into a folder of its own")
    parser.add_argument("--parallel", type=_number, default=4, metavar="N", help="files sent at once (4)")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each file")


if __name__ == "__main__":
    sys.exit(main())
