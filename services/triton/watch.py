"""Keep a running Triton server current and sound.

    python -m services.triton.watch --server http://127.0.0.1:8000

The server runs with explicit model control, since only that lets a broken model be mended from outside. Asked to
load a model that has not changed, Triton does nothing; so this asks for every model of the repository, again and
again, wherever the repository is. Beside that each loaded model infers once in a while, unless it works anyway: a
small request of another kind than those in the queue would part their batch, and keeps Triton's batcher spinning
until the batch before it has ended.

1. One whose process is dead, which Triton does not notice by itself, is unloaded and loaded.
2. One that hangs, that is, answers nothing and gets no further in its work for ``hung`` seconds, loses its process,
   and is loaded anew; one whose loading does not end within ``load`` seconds loses it too. One that is only busy is
   left alone: each call of its network counts as getting further.
3. A server in which that does not help is ended, so that whoever started it starts it again.

When the server ends, however it does, what is left of it is removed: a model's process that the killed server leaves
behind ends itself, but may hang at it, and would keep its memory beside that of the next server.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import math
import os
import re
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from services.triton import health

PR_SET_PDEATHSIG = 1
_STUB, _REGION = "triton_python_backend_stub", "_backend_shm_region_"
_SHARED_MEMORY = "/dev/shm"  # noqa: S108  # where Triton puts it
UNLOAD_TIMEOUT = 60.0  # seconds; its requests have ended with its process
_WORK = r'^kiosk_network_seconds\{[^}]*model="%s"[^}]*\} (\S+)'


@dataclass(frozen=True)
class Care:
    """How a server is looked after.

    Attributes:
        server: HTTP address.
        metrics: address of its metrics page; empty: that a model gets further shows in its answers only.
        every: s between looks.
        hung: s without an answer or other progress after which a model hangs; 0: never.
        load: s that loading a model may take.
        process: the server's process, whose children are the models' processes; 0: not on this machine.
    """

    server: str
    metrics: str = ""
    every: float = 5.0
    hung: float = 180.0
    load: float = 600.0
    process: int = 0


@dataclass(frozen=True)
class Silence:
    """A model that gives no answer: what it had done by then, since when (s, monotonic), and whether it was mended."""

    done: float
    since: float
    mended: bool = False


def start(care: Care) -> int:
    """Look after the server that this process is to become, from a child that ends with it; returns the child's id."""
    parent = os.getpid()
    child = os.fork()
    if not child:
        _look_after(parent, care)
    return child


def _look_after(server: int, care: Care) -> NoReturn:
    signal.signal(signal.SIGUSR1, lambda *_: _end_with(server))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() == server:
        run(care)
    _end_with(server)


def _end_with(server: int) -> NoReturn:
    """Kill the models' processes of a server that is gone, remove their shared memory, and end."""
    for process, words in _commands():
        # Such a process is told its model, its shared memory, two sizes and its server's id.
        if words[0].endswith(_STUB) and str(server) in words[3:6]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            if _REGION in words[2]:
                Path(_SHARED_MEMORY, words[2]).unlink(missing_ok=True)
    os._exit(0)


def run(care: Care) -> None:
    """Look after a server for ever; loading, which may take long, beside the rest."""
    refused: dict[str, str] = {}
    silent: dict[str, Silence] = {}
    done: dict[str, float] = {}
    loads = threading.Thread(target=_forever, args=(care, lambda: load_all(care, refused), False), daemon=True)
    loads.start()
    _forever(care, lambda: mend_all(care, silent, done), True)


def _forever(care: Care, look: Callable[[], object], reports: bool) -> None:
    reported = True  # that it is away: said once, and not while it starts
    while True:
        time.sleep(care.every)
        try:
            look()
            reported = False
        except (OSError, ValueError, health.Unhealthy) as error:  # not up yet, or going down
            if reports and not reported:
                _say(f"{care.server} does not answer: {error}")
            reported = True


def load_all(care: Care, refused: dict[str, str]) -> None:
    """Ask the server to load each model of its repository; keeps in ``refused`` why it did not, and prints what is new.

    A model that does not come to an end with it loses its process, so that the next try can begin.
    """
    for name in sorted({entry["name"] for entry in health.call(care.server, "repository/index", {})}):
        try:
            health.call(care.server, f"repository/models/{name}/load", {}, care.load)
        except urllib.error.HTTPError as error:
            reason = error.read().decode(errors="replace")
            if refused.get(name) != reason:
                _say(f"{name} cannot be loaded: {reason}")
            refused[name] = reason
        except TimeoutError:
            _say(f"{name} was not loaded within {care.load:g} s; its process is ended.")
            end_processes(care, name)
        else:
            refused.pop(name, None)


def mend_all(care: Care, silent: dict[str, Silence], done: dict[str, float]) -> list[str]:
    """Let each loaded model infer that got no further since the last look, and mend those that are dead or hang.

    Keeps in ``done`` how far each had come. Returns the names of those that were mended.
    """
    names = health.loaded(care.server)
    for known in (silent, done):
        for name in known.keys() - set(names):
            del known[name]
    mended = []
    for name in names:
        now = progress(care, name)
        if now > done.get(name, math.inf):
            silent.pop(name, None)
        else:
            if _mend(care, name, silent):
                mended.append(name)
            now = progress(care, name)  # what it did for this look is no sign that it works
        done[name] = now
    return mended


def _mend(care: Care, name: str, silent: dict[str, Silence]) -> bool:
    try:
        health.check_model(care.server, name, min(health.TIMEOUT, care.hung or health.TIMEOUT))
    except health.Unhealthy as error:
        if error.broken:
            _say(f"{error} It is loaded again.")
            reload(care, name)
            return True
        if error.silent and care.hung:
            return _mend_silent(care, name, silent)
    silent.pop(name, None)
    return False


def _mend_silent(care: Care, name: str, silent: dict[str, Silence]) -> bool:
    """Mend a model that gave no answer, if it has got no further for too long."""
    done, now = progress(care, name), time.monotonic()
    known = silent.get(name)
    if known is None or known.done != done:
        silent[name] = Silence(done, now)
        return False
    if now - known.since <= care.hung:
        return False
    if known.mended:
        end_server(care, f"{name} hangs, and loading it again did not help.")
        return False
    _say(f"{name} has answered nothing for {care.hung:g} s. Its process is ended and it is loaded again.")
    reload(care, name)
    silent[name] = Silence(progress(care, name), time.monotonic(), mended=True)
    return True


def progress(care: Care, name: str) -> float:
    """A number that grows while a model gets further: seconds of its network, counted with each call of it."""
    if not care.metrics:
        return float(health.answered(care.server, name))
    with urllib.request.urlopen(care.metrics, timeout=health.TIMEOUT) as page:  # noqa: S310 the operator's own address
        text = page.read().decode(errors="replace")
    return sum(map(float, re.findall(_WORK % re.escape(name), text, re.MULTILINE)))


def reload(care: Care, name: str) -> None:
    """End what is left of a model's processes, which would keep its memory, and load it again."""
    end_processes(care, name)
    try:
        health.call(care.server, f"repository/models/{name}/unload", {}, UNLOAD_TIMEOUT)
    except TimeoutError:
        end_server(care, f"{name} cannot be unloaded.")
        return
    health.call(care.server, f"repository/models/{name}/load", {}, care.load)


def end_processes(care: Care, name: str) -> None:
    """Kill the processes of a model, where the server is on this machine."""
    for process in processes(care.process, name):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def end_server(care: Care, reason: str) -> None:
    """Tell the server to end, where it is on this machine."""
    _say(f"{reason} {'The server is ended.' if care.process else 'It must be started again.'}")
    if care.process:
        os.kill(care.process, signal.SIGTERM)


def processes(server: int, name: str) -> list[int]:
    """The process ids of a model's Python processes, which are children of the server's process."""
    # Triton calls an instance by its model and numbers, as in Cells_0_1.
    instance = re.compile(rf"{re.escape(name)}(_\d+)+")
    return [
        process
        for process, words in (_commands() if server else ())
        if any(map(instance.fullmatch, words)) and _parent(process) == server
    ]


def _commands() -> Iterator[tuple[int, list[str]]]:
    """The id and the words of the command of each process of this machine."""
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            with contextlib.suppress(OSError):  # it ended meanwhile
                yield int(place.name), (place / "cmdline").read_text(errors="replace").split("\0")


def _parent(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _say(text: str) -> None:
    print(f"watch: {text}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.triton.watch", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--server", default="http://127.0.0.1:8000", help="Triton's HTTP address")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between looks")
    options = parser.parse_args()
    run(Care(options.server.rstrip("/"), every=options.every))


if __name__ == "__main__":
    main()
