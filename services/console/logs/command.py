"""The command ``kiosk logs``."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from services.console import kubectl, output, reach
from services.console.logs import sources
from services.console.logs.lines import LEVELS, Line, Wish, shown, span
from services.console.logs.pods import PodLogs
from shared.errors import InvalidInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what ``kiosk logs`` can be told."""
    reach.add_arguments(parser)
    parser.add_argument("services", nargs="*", help="frontend, consumer, autoscaler, … (default: all)")
    parser.add_argument("--follow", "-f", action="store_true", help="go on until told to stop")
    parser.add_argument("--tail", type=int, default=50, help="lines to begin with (default %(default)s)")
    parser.add_argument("--job", default="", help="only lines that name this job")
    parser.add_argument("--level", choices=LEVELS, default="debug", help="least level that is shown")
    parser.add_argument("--since", help="only what is younger, such as 10m or 2h")
    parser.add_argument("--json", action="store_true", help="lines as they were written")
    parser.add_argument("--kubernetes", action="store_true", help="from the pods of a cluster (needs kubectl)")
    parser.add_argument("--namespace", default="", help="Kubernetes namespace")
    parser.add_argument("--context", default="", help="kubeconfig context")


def main(options: argparse.Namespace) -> int:
    """Show log lines."""
    if options.tail < 0:
        raise InvalidInput(f"--tail is {options.tail}; it must not be negative.")
    since = time.time() - span(options.since) if options.since else None
    # The autoscaler's file holds the consumers' lines too: each is shown under its own name.
    wish = Wish(options.level, options.job, since, frozenset() if options.kubernetes else frozenset(options.services))
    show = _shower(options)
    if options.kubernetes:
        begin = kubectl.words(options.namespace, options.context)
        logs = PodLogs(options.services, wish, options.tail, show, begin)
        asyncio.run(logs.follow() if options.follow else logs.once())
        return 0
    paths = sources.files(reach.place(options).logs, options.services)
    if not paths:
        raise InvalidInput(f"There are no logs in {reach.place(options).logs}; --kubernetes reads those of a cluster.")
    for line in sources.last(paths, wish, options.tail) if options.tail else []:
        show(line)
    if options.follow:
        asyncio.run(sources.follow(paths, wish, show))
    return 0


def _shower(options: argparse.Namespace) -> sources.Show:
    colour = sys.stdout.isatty()

    def show(line: Line) -> None:
        output.say(line.text if options.json else shown(line, colour=colour))

    return show
