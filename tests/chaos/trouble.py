"""Storage that fails now and then: while a file exists, what a process asks of its file system ends in an I/O error.

As a program it runs a service with such a storage: ``python -m tests.chaos.trouble FILE frontend``.
"""

from __future__ import annotations

import errno
import functools
import random
import runpy
import sys
from pathlib import Path
from typing import Any

from shared.storage.file import FileStorage

#: Every write and every look at an object passes through these.
_PLACES = ("_temporary", "_publish", "_stat")
_CHANCE = 0.3


def make_storage_shaky(flag: Path) -> None:
    """Let the storage of this process fail at random while a file exists."""
    for place in _PLACES:
        sound = getattr(FileStorage, place)

        @functools.wraps(sound)
        def shaky(*args: Any, sound: Any = sound) -> Any:
            if flag.exists() and random.random() < _CHANCE:
                raise OSError(errno.EIO, "Input/output error")
            return sound(*args)

        setattr(FileStorage, place, shaky)


if __name__ == "__main__":
    file, service = sys.argv[1:]
    del sys.argv[1:]
    make_storage_shaky(Path(file))
    runpy.run_module(f"services.{service}", run_name="__main__")
