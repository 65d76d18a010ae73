"""The command ``kiosk up``."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from services.console.up import plan
from services.console.up.place import Place
from services.console.up.settings import UpSettings
from services.console.up.supervisor import Supervisor, say
from shared.errors import Misconfigured
from shared.version import VERSION

#: Exit code of ``python -m services.triton.environment`` where Triton cannot run.
_NO_TRITON = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what ``kiosk up`` can be told."""
    parser.add_argument("--data", type=Path, help="folder of all state (KIOSK_DATA; default ./data)")
    parser.add_argument("--host", help="address of the page and the API (KIOSK_HOST; default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port of the page and the API (KIOSK_PORT; default 8080)")
    parser.add_argument(
        "--models", choices=("auto", "triton", "process"), help="what runs the models (KIOSK_MODELS; default auto)"
    )


def main(options: argparse.Namespace) -> int:
    """Run the suite until it is told to stop; return the exit code."""
    settings = _settings(options)
    if not (plan.ROOT / "services" / "frontend").is_dir():
        raise Misconfigured("This installation holds the console only; `kiosk up` needs the whole source tree.")
    place = Place(settings.data)
    with place.alone():
        return asyncio.run(_run(settings, place))


def _settings(options: argparse.Namespace) -> UpSettings:
    given = {name: getattr(options, name) for name in ("data", "host", "port", "models")}
    try:
        return UpSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        wrong = "; ".join(f"KIOSK_{e['loc'][0]!s}".upper() + f": {e['msg']}" for e in error.errors(include_input=False))
        raise Misconfigured(f"These settings are wrong: {wrong}.") from error


async def _run(settings: UpSettings, place: Place) -> int:
    say(f"CellKiosk {VERSION}, with its data in {place.folder}")
    made = plan.make(settings, place, triton=_triton(settings), report=say)
    supervisor = Supervisor(made.parts, place.logs, say)
    supervisor.listen()
    place.write(made.running)

    def ready() -> None:
        say(f"CellKiosk is ready: {made.running.url}")

    code = await supervisor.run(settings.start_seconds, ready)
    say("CellKiosk has stopped; the next start goes on with the jobs that are left." if code == 0 else "Stopped.")
    return code


def _triton(settings: UpSettings, report: Callable[[str], None] = say) -> bool:
    """Make Triton's environment if need be; return whether the real server is to be used."""
    if settings.models == "process":
        report("The models run in the workers' own processes, as asked")
        return False
    made = subprocess.run(
        [sys.executable, "-m", "services.triton.environment"],
        cwd=plan.ROOT,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if made.returncode == 0:
        return True
    sentence = made.stderr.strip() or f"Triton's environment could not be made (exit code {made.returncode})."
    if made.returncode == _NO_TRITON and settings.models == "auto":
        report(sentence)
        return False
    raise Misconfigured(sentence)
