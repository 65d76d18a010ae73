"""``python -m services.janitor``: runs the janitor; with ``--dry-run`` it says what it would do, and ends."""

from __future__ import annotations

import argparse
import asyncio
import sys

from services.janitor.preview import preview
from services.janitor.service import main, opened
from services.janitor.settings import Settings
from shared.errors import KioskError, Misconfigured
from shared.lifecycle import run
from shared.settings import load


async def _preview() -> None:
    settings = load(Settings)
    number = 0
    async with opened(settings) as (store, storage):
        async for sentence in preview(store, storage, settings):
            number += 1
            sys.stdout.write(f"would {sentence}\n")
    sys.stdout.write(f"{number} things to do; nothing was changed.\n")


def _command() -> int:
    parser = argparse.ArgumentParser(prog="janitor", description="Keeps the promise that no job is lost.")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done now, and change nothing")
    if not parser.parse_args().dry_run:
        return run("janitor", Settings, main)
    try:
        asyncio.run(_preview())
    except Misconfigured as error:
        sys.stderr.write(f"janitor: {error}\n")
        return 2
    except KioskError as error:
        sys.stderr.write(f"janitor: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_command())
