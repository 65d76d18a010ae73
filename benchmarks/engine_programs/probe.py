"""Counts the executions of a worker process in a shared file, and notes how long after its submission each began."""

from __future__ import annotations

import mmap
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

_FORM = struct.Struct("ddqq")  # first, last (monotonic s), executions, latencies
_MOST = 100_000
SIZE = _FORM.size + 8 * _MOST
_DOUBLE = struct.Struct("d")


class Probe:
    """The worker's side: call `hit` when a job runs."""

    def __init__(self, path: str) -> None:
        with Path(path).open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE)
        self._first = 0.0
        self._count = self._latencies = 0

    def hit(self, sent: float = 0.0) -> None:
        """Count an execution of a job that was submitted at ``sent`` (monotonic s; 0: not to be timed)."""
        now = time.monotonic()
        self._first = self._first or now
        self._count += 1
        if sent:
            _DOUBLE.pack_into(self._map, _FORM.size + 8 * (self._latencies % _MOST), now - sent)
            self._latencies += 1
        _FORM.pack_into(self._map, 0, self._first, now, self._count, self._latencies)


def read(path: Path) -> tuple[float, float, int, list[float]]:
    """Return first and last execution (monotonic s), their number, and the latencies (s)."""
    data = path.read_bytes()
    first, last, count, latencies = _FORM.unpack_from(data)
    return first, last, count, list(struct.unpack_from(f"{latencies}d", data, _FORM.size))


def create(path: Path) -> None:
    """Make an empty shared file."""
    path.write_bytes(bytes(SIZE))


async def pace(submit: Callable[[float], Awaitable[object]], count: int, pause: float) -> None:
    """Submit jobs one at a time, each with the time of its submission, ``pause`` s apart."""
    import asyncio

    for number in range(count):
        await asyncio.sleep(pause * (0.75 + 0.5 * (number % 7) / 7))
        await submit(time.monotonic())


def told(began: float) -> None:
    """Print the seconds since ``began``."""
    sys.stdout.write(f"{time.monotonic() - began}\n")
