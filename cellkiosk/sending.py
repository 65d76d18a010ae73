"""What every upload has: the bytes of a file, who is told how far they came, and where its address is remembered."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

from cellkiosk.errors import BadFile

Progress = Callable[[int, int], None]
"""Called with the bytes sent and the bytes in all."""

CHUNK = 32 * 1024 * 1024
"""Bytes of one request: below what proxies commonly allow, and a multiple of what buckets take."""
_BLOCK = 256 * 1024


class Outgoing:
    """A file that is to be sent."""

    def __init__(self, source: BinaryIO, name: str, progress: Progress | None = None, mark: Path | None = None) -> None:
        """Send nothing yet.

        Args:
            source: the bytes; can be sought.
            name: for people.
            progress: told how far it came.
            mark: where to write down the upload's address, for a later run; None: nowhere.
        """
        self.name = name
        self.size = source.seek(0, os.SEEK_END)
        self._source = source
        self._progress = progress
        self._mark = mark

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield some of its bytes, and tell of them.

        Raises:
            BadFile: they are not there any more.
        """
        end = start + length
        while start < end:
            block = await asyncio.to_thread(self._read, start, min(_BLOCK, end - start))
            if not block:
                raise BadFile(f"{self.name} became shorter while it was sent.")
            yield block
            start += len(block)
            self.told(start)

    def told(self, sent: int) -> None:
        """Tell how many bytes have been sent."""
        if self._progress is not None:
            self._progress(sent, self.size)

    def remembered(self) -> dict[str, str]:
        """Return what an earlier run wrote down of its upload; empty where there is nothing."""
        if self._mark is not None:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                return {name: str(text) for name, text in json.loads(self._mark.read_text()).items()}
        return {}

    def remember(self, **what: str) -> None:
        """Write down what a later run needs to go on."""
        if self._mark is not None:
            with contextlib.suppress(OSError):  # a home that cannot be written: then without
                self._mark.parent.mkdir(parents=True, exist_ok=True)
                self._mark.touch(mode=0o600)  # the address of a bucket's session is as good as a key
                self._mark.write_text(json.dumps(what))

    def forget(self) -> None:
        """Have a later run begin anew."""
        if self._mark is not None:
            with contextlib.suppress(OSError):
                self._mark.unlink(missing_ok=True)

    def _read(self, start: int, length: int) -> bytes:
        self._source.seek(start)
        return self._source.read(length)


def mark_of(url: str, path: Path) -> Path | None:
    """Return where the address of a large file's upload is written down; None for a small one.

    The same path, size and time of change mean the same file.
    """
    status = path.stat()
    if status.st_size <= CHUNK:
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cellkiosk" / "uploads"
    what = f"{url}\n{path.resolve()}\n{status.st_size}\n{status.st_mtime_ns}"
    return cache / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.json"
