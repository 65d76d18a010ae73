"""Keep a running Triton server current and sound.

    python -m services.triton.watch --server http://127.0.0.1:8000

The server runs with explicit model control, since only that lets a broken model be mended from outside. Asked to
load a model that has not changed, Triton does nothing; so this asks for every model of the repository, again and
again, wherever the repository is. Then each loaded model infers once; one whose process is dead, which Triton does
not notice by itself, is unloaded and loaded.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import time
import urllib.error

from services.triton import health

PR_SET_PDEATHSIG = 1
LOAD_TIMEOUT = 600.0  # seconds; loading a large model takes long


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
    """Look after ``server`` every ``every`` seconds, for ever."""
    refused: dict[str, str] = {}
    reported = True  # that it is away: said once, and not while it starts
    while True:
        time.sleep(every)
        try:
            refused = load_all(server, refused)
            mend_all(server)
            reported = False
        except (OSError, ValueError, health.Unhealthy) as error:  # not up yet, or going down
            if not reported:
                _say(f"{server} does not answer: {error}")
            reported = True


def load_all(server: str, refused: dict[str, str] | None = None) -> dict[str, str]:
    """Ask ``server`` to load each model of its repository; returns why some were refused, and prints what is new."""
    known, result = refused or {}, {}
    for name in sorted({entry["name"] for entry in health.call(server, "repository/index", {})}):
        try:
            health.call(server, f"repository/models/{name}/load", {}, LOAD_TIMEOUT)
        except urllib.error.HTTPError as error:
            result[name] = error.read().decode(errors="replace")
            if known.get(name) != result[name]:
                _say(f"{name} cannot be loaded: {result[name]}")
    return result


def mend_all(server: str) -> list[str]:
    """Let each loaded model infer, and load anew those whose process is dead; returns their names."""
    mended = []
    for name in health.loaded(server):
        try:
            health.check_model(server, name)
        except health.Unhealthy as error:
            if error.broken:
                _say(f"{error} It is loaded again.")
                health.call(server, f"repository/models/{name}/unload", {}, LOAD_TIMEOUT)
                health.call(server, f"repository/models/{name}/load", {}, LOAD_TIMEOUT)
                mended.append(name)
    return mended


def _say(text: str) -> None:
    print(f"watch: {text}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.triton.watch", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--server", default="http://127.0.0.1:8000", help="Triton's HTTP address")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between looks")
    options = parser.parse_args()
    run(options.server, options.every)


if __name__ == "__main__":
    main()
