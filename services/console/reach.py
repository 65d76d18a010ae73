"""Where the suite is that a command is about: named by the environment, or the one that ``kiosk up`` runs here."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from services.console.up.place import Place, Running
from shared.errors import Misconfigured
from shared.jobs import JobStore, open_store
from shared.settings import ServiceSettings, load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a command name the data folder of a suite on this machine."""
    parser.add_argument("--data", type=Path, help="data folder of the suite (KIOSK_DATA; default ./data)")


def place(options: argparse.Namespace) -> Place:
    """Return the data folder that a command names."""
    return Place(getattr(options, "data", None) or Path(os.environ.get("KIOSK_DATA") or "data"))


def suite(options: argparse.Namespace) -> Running:
    """Return where the suite's parts listen.

    Raises:
        Misconfigured: no Redis is named and nothing runs in the data folder.
    """
    if os.environ.get("KIOSK_REDIS__URL"):
        settings = load(ServiceSettings)
        return Running(
            pid=0,
            url=os.environ.get("KIOSK_PUBLIC_URL", ""),
            redis_url=settings.redis.url.get_secret_value(),
            storage_url=settings.storage.url,
            model_server_url=os.environ.get("KIOSK_MODEL_SERVER__URL", ""),
        )
    here = place(options)
    running = here.running()
    if running is None:
        raise Misconfigured(
            f"No suite runs with the data in {here.folder}. Start it with `kiosk up`, name its folder by --data, or "
            "the Redis of another one by KIOSK_REDIS__URL."
        )
    return running


def url(options: argparse.Namespace) -> str:
    """Return the address of the frontend: an option, the environment, what runs here, or the usual one."""
    named = getattr(options, "url", "") or os.environ.get("KIOSK_URL") or os.environ.get("KIOSK_PUBLIC_URL")
    if named:
        return str(named).rstrip("/")
    running = place(options).running()
    return running.url if running else "http://127.0.0.1:8080"


def store(running: Running) -> JobStore:
    """Return the suite's job store."""
    return open_store(running.redis_url, load(ServiceSettings).redis.prefix)
