"""The table of commands: each name with what it does and where it is.

A command is a module with ``add_arguments(parser)`` and ``main(options) -> int``; it is imported when it is called,
so that none pays for the others. The client's commands (submit, get, …) are passed on as they are.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from services.console import reach
from shared.errors import InvalidInput, KioskError, Misconfigured
from shared.version import VERSION


@dataclass(frozen=True)
class Command:
    """One word after ``kiosk``."""

    name: str
    module: str
    help: str


COMMANDS = (
    Command("up", "services.console.up.command", "start the whole suite on this machine"),
    Command("status", "services.console.status", "show what runs, what waits and who works"),
    Command("logs", "services.console.logs.command", "show and follow logs, by service, job, time and level"),
    Command("doctor", "services.console.doctor.command", "examine everything the suite leans on"),
    Command("benchmark", "services.console.benchmark.command", "time and price many jobs, or draw such results"),
    Command("costs", "services.console.costs", "divide a cluster's bill among owners, batches or jobs"),
    Command("simulate", "services.console.simulate", "what the autoscaler would do with a load, and its cost"),
    Command("audit", "services.console.audit", "check every promise of the job store"),
    Command("keys", "services.console.keys", "make, list and revoke API keys"),
    Command("cluster", "services.console.cluster.command", "create, destroy, look at or clear up a GKE cluster"),
    Command("forward", "services.console.forward", "a cluster's dashboards and API on local ports"),
    Command("shell", "services.console.shell", "a shell in which the suite is at hand"),
)

CLIENT = {
    "submit": "send images and fetch their results",
    "watch": "follow jobs until they end",
    "ls": "list jobs",
    "get": "fetch results",
    "cancel": "give jobs up",
    "models": "list what can be done, with which options and models",
    "completion": "print the completion script of a shell",
}

_NAMES = {command.name for command in COMMANDS} | CLIENT.keys()


def main(words: Sequence[str]) -> int:
    """Carry out a command line; return its exit code: 2 for a wrong call or setting, 1 for a failure."""
    try:
        return _carry_out(words)
    except KioskError as error:
        return _fault(error)
    except ExceptionGroup as group:  # of several tasks; the first reason is what a person needs
        known = group.subgroup(KioskError)
        if known is None:
            raise
        return _fault(_first(known))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `kiosk ls | head`
        sys.stderr.close()
        return 0


def _carry_out(words: Sequence[str]) -> int:
    called = words[0] if words else ""
    if not words and sys.stdin.isatty() and sys.stdout.isatty():
        from services.console.menu import choose

        return choose(main)
    if called in CLIENT:
        return _completion(words) if called == "completion" else _client(words)
    if called == "simulate":
        from services.console.simulate import run

        return run(words[1:])
    if called and not called.startswith("-") and called not in _NAMES:
        raise Misconfigured(_unknown(called))
    options = _parser(called).parse_args(words)
    return int(options.run(options))


def _unknown(word: str) -> str:
    near = difflib.get_close_matches(word, _NAMES, 1)
    meant = f" Did you mean `kiosk {near[0]}`?" if near else ""
    return f"There is no command {word!r}.{meant} All of them: {', '.join(sorted(_NAMES))}."


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


def _fault(error: BaseException) -> int:
    sys.stderr.write(f"kiosk: {error}\n")
    return 2 if isinstance(error, Misconfigured | InvalidInput) else 1


def _parser(called: str) -> argparse.ArgumentParser:
    """A parser that knows the arguments of the one command that was called."""
    theirs = "\n".join(f"  {name:<12}{text}" for name, text in CLIENT.items())
    parser = argparse.ArgumentParser(
        prog="kiosk",
        description="Run, use and operate CellKiosk.",
        epilog=f"commands for users:\n{theirs}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"CellKiosk {VERSION}")
    subparsers = parser.add_subparsers(title="commands for operators", metavar="command", required=True)
    for command in COMMANDS:
        one = subparsers.add_parser(command.name, help=command.help, description=command.help)
        if command.name == called:
            module = importlib.import_module(command.module)
            module.add_arguments(one)
            one.set_defaults(run=module.main)
    return parser


def _completion(words: Sequence[str]) -> int:
    """Print the completion of all commands, the client's and ours."""
    from cellkiosk import cli
    from cellkiosk.completion import script, words_of

    options = cli.parser().parse_args(words)
    names = [command.name for command in COMMANDS if command.name != "simulate"]  # which has a parser of its own
    ours = {"simulate": [], **{name: words_of(_parser(name))[name] for name in names}}
    sys.stdout.write(script(options.shell, {**words_of(cli.parser()), **ours}))
    return 0


def _client(words: Sequence[str]) -> int:
    try:
        client = importlib.import_module("cellkiosk.cli")
    except ModuleNotFoundError as error:
        return _fault(Misconfigured(f"The client's commands cannot be used here: {error}."))
    # A suite that runs here is the one that is meant, unless another is named.
    os.environ.setdefault("KIOSK_URL", reach.url(argparse.Namespace()))
    return int(client.main(list(words)))
