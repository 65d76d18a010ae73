"""The table of commands: each name with what it does and where it is.

A command is a module with ``add_arguments(parser)`` and ``main(options) -> int``; it is imported when it is called,
so that none pays for the others. The client's commands (submit, get, …) are passed on as they are.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import KioskError, Misconfigured
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
    Command("benchmark", "services.console.benchmark.command", "time and price many jobs, or draw such results"),
)

CLIENT = {
    "submit": "send images and fetch their results",
    "watch": "follow jobs until they end",
    "ls": "list jobs",
    "get": "fetch results",
    "cancel": "give jobs up",
    "models": "list the models that are served",
}


def main(words: Sequence[str]) -> int:
    """Carry out a command line; return its exit code: 2 for a wrong call or setting, 1 for a failure."""
    if words and words[0] in CLIENT:
        return _client(words)
    parser = _parser(words[0] if words else "")
    options = parser.parse_args(words)
    try:
        return int(options.run(options))
    except Misconfigured as error:
        return _fault(error, 2)
    except KioskError as error:
        return _fault(error, 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `kiosk ls | head`
        sys.stderr.close()
        return 0


def _fault(error: Exception, code: int) -> int:
    sys.stderr.write(f"kiosk: {error}\n")
    return code


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


def _client(words: Sequence[str]) -> int:
    try:
        client = importlib.import_module("cellkiosk.cli")
    except ModuleNotFoundError as error:
        return _fault(Misconfigured(f"The client's commands cannot be used here: {error}."), 2)
    return int(client.main(list(words)))
