"""Whose time it is while a model server is busy: requests that are under way together share it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

OnUsed = Callable[[float], None]


class SharedTime:
    """Divides the time in which at least one request is under way among the requests, at each moment in equal parts.

    So the parts of all requests add up to the time in which the server was busy, however many it works on at once.

    Args:
        now: clock, s.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._at = 0.0
        self._requests = 0
        self._each = 0.0
        """s that a request has got which was there from the beginning."""

    @contextlib.contextmanager
    def request(self, on_used: OnUsed | None = None) -> Iterator[None]:
        """Count a request as under way; at its end ``on_used`` is told its part, s."""
        self._advance(1)
        begin = self._each
        try:
            yield
        finally:
            self._advance(-1)
            if on_used is not None:
                on_used(self._each - begin)

    def _advance(self, change: int) -> None:
        now = self._now()
        if self._requests:
            self._each += (now - self._at) / self._requests
        self._at = now
        self._requests += change
