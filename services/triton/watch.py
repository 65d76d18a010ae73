"""Make a running Triton server load what is new in its repository.

    python -m services.triton.watch --server http://127.0.0.1:8000

The server runs with explicit model control, since only that lets a broken model be mended from outside. Asked to
load a model that has not changed, Triton does nothing; so this asks for every model of the repository, again and
again, wherever the repository is.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from typing import Any

PR_SET_PDEATHSIG = 1
TIMEOUT = 600.0  # seconds; loading a large model takes long


def start(server: str, every: float) -> int:
    """Watch ``server`` from a child process that ends with its parent; returns the child's process id."""
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == parent:
        run(server, every)
    os._exit(0)


def run(server: str, every: float) -> None:
    """Ask for new models every ``every`` seconds, for ever."""
    refused: dict[str, str] = {}
    while True:
        time.sleep(every)
        try:
            refused = load_all(server, refused)
        except (OSError, ValueError) as error:  # not up yet, or going down
            print(f"watch: {server} does not answer: {error}", file=sys.stderr)


def load_all(server: str, refused: dict[str, str] | None = None) -> dict[str, str]:
    """Ask ``server`` to load each model of its repository; returns why some were refused, and prints what is new."""
    known, result = refused or {}, {}
    for name in sorted({entry["name"] for entry in _call(server, "repository/index")}):
        try:
            _call(server, f"repository/models/{name}/load")
        except urllib.error.HTTPError as error:
            result[name] = error.read().decode(errors="replace")
            if known.get(name) != result[name]:
                print(f"watch: {name} cannot be loaded: {result[name]}", file=sys.stderr)
    return result


def _call(server: str, path: str) -> Any:
    request = urllib.request.Request(f"{server}/v2/{path}", data=b"{}", method="POST")  # noqa: S310
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
        text = answer.read()
    return json.loads(text) if text else None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.triton.watch", description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="http://127.0.0.1:8000", help="Triton's HTTP address")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between looks")
    options = parser.parse_args()
    run(options.server, options.every)


if __name__ == "__main__":
    main()
