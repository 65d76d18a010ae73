"""The data folder of ``kiosk up``: who uses it now, and where that suite listens."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

from shared.errors import Misconfigured


@dataclass(frozen=True)
class Running:
    """What other commands need to know of the suite that uses a data folder; holds the password of its Redis."""

    pid: int
    url: str
    redis_url: str
    storage_url: str
    model_server_url: str
    ports: dict[str, dict[str, int]] = field(default_factory=dict)
    """Of each part, by purpose."""
    costs: dict[str, str] = field(default_factory=dict)
    """The variables that it was started with and that say what work is worth."""


class Place:
    """One data folder."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is made yet."""
        self.folder = folder.absolute()
        self.logs = self.folder / "logs"
        self.storage = self.folder / "storage"
        self.models = self.folder / "models"
        self.redis = self.folder / "redis"
        self.scratch = self.folder / "scratch"
        self._state = self.folder / "running.json"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder for one supervisor.

        Raises:
            Misconfigured: the folder cannot be written, or another supervisor holds it.
        """
        try:
            for part in (self.folder, self.logs, self.storage, self.models, self.redis, self.scratch):
                part.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("w")
        except OSError as error:
            raise Misconfigured(f"The data folder {self.folder} cannot be used: {error.strerror}.") from error
        with lock:
            if not _locked(lock):
                raise Misconfigured(self._busy())
            yield

    def _busy(self) -> str:
        running = self.last()
        at = f" at {running.url} (process {running.pid})" if running else ""
        return f"CellKiosk runs already{at} with the data in {self.folder}; KIOSK_DATA names another folder."

    def write(self, running: Running) -> None:
        """Tell other commands where the suite listens; readable by this user only."""
        new = self._state.with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(asdict(running), file, indent=2)
        new.replace(self._state)

    def last(self) -> Running | None:
        """Return what the latest supervisor here wrote, whether it still runs or not."""
        try:
            return Running(**json.loads(self._state.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def running(self) -> Running | None:
        """Return what the supervisor that holds the folder wrote; None while there is none."""
        try:
            with (self.folder / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return self.last()
        except OSError:
            return None
        return None

    def password(self) -> str:
        """Return the password of this folder's Redis: other users of the machine can reach its port."""
        file = self.redis / "password"
        if not file.exists():
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as out:
                out.write(secrets.token_hex(24))
        return file.read_text(encoding="ascii").strip()


def _locked(file: TextIO) -> bool:
    """Take the lock; a command that only looks whether it is taken holds it for a moment, so one try is not enough."""
    for _ in range(5):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return True
    return False
