"""Metrics that are counted thousands of times a second, by the event loop's thread alone.

They are prometheus_client's own without the lock and the checks of each call, which one thread has no use for; in the
smallest requests they took the most of what metrics cost.
"""

from __future__ import annotations

from bisect import bisect_left

from prometheus_client import Counter, Histogram


class LoopCounter(Counter):
    """A counter that only the event loop's thread counts up."""

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:  # noqa: ARG002
        """Count."""
        self._value._value += amount  # noqa: SLF001


class LoopHistogram(Histogram):
    """A histogram that only the event loop's thread adds to."""

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:  # noqa: ARG002
        """Add one observation."""
        self._sum._value += amount  # noqa: SLF001
        self._buckets[bisect_left(self._upper_bounds, amount)]._value += 1  # noqa: SLF001
