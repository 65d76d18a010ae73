"""``kiosk shell``: a shell, or Python, in which the suite is at hand."""

from __future__ import annotations

import argparse
import asyncio
import code
import contextlib
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn

from services.console import output, reach
from services.console.up.place import Running
from services.console.up.plan import ROOT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what ``kiosk shell`` can be told."""
    reach.add_arguments(parser)
    parser.add_argument("--python", action="store_true", help="Python with `store` and `run(…)` instead of a shell")


def main(options: argparse.Namespace) -> int:
    """Open a shell that knows where the suite is."""
    running = reach.suite(options)
    return _python(running) if options.python else _shell(running)


def _shell(running: Running) -> NoReturn:
    shell = os.environ.get("SHELL") or "/bin/sh"
    output.say(f"A shell with KIOSK_URL={running.url}, the suite's settings and `kiosk`; leave it with `exit`.")
    os.execve(shell, [shell], environment(running))  # noqa: S606  # the point of this command


def environment(running: Running) -> dict[str, str]:
    """Return the variables by which every command and service finds the suite."""
    known = {
        "KIOSK_URL": running.url,
        "KIOSK_PUBLIC_URL": running.url,
        "KIOSK_REDIS__URL": running.redis_url,
        "KIOSK_STORAGE__URL": running.storage_url,
        "KIOSK_MODEL_SERVER__URL": running.model_server_url,
        # `kiosk`, and the Python that the services need: a service can be started by hand.
        "PATH": os.pathsep.join([str(ROOT), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
    return {**running.costs, **os.environ, **{name: value for name, value in known.items() if value}}


def _python(running: Running) -> int:
    loop = asyncio.new_event_loop()
    store = reach.store(running)

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        """Run a call of the store, as in ``run(store.queues(["segmentation"]))``."""
        return loop.run_until_complete(work)

    with contextlib.closing(loop):
        banner = "store: the job store. run(store.get(id)), run(store.queues([type])), … Leave with Ctrl-D."
        code.interact(banner, local={"store": store, "run": run}, exitmsg="")
        loop.run_until_complete(store.aclose())
    sys.stdout.flush()
    return 0
