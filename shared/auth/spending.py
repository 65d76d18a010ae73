"""What owners have used of something in the present hour, over all processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from shared.jobs.base import errors_by_meaning
from shared.jobs.keys import SPENT

_HOUR = 3600


class Spending:
    """Counts by owner and hour."""

    def __init__(self, redis: Any, prefix: str, now: Callable[[], float] = time.time) -> None:
        """Keep the counts in Redis, under a deployment's prefix."""
        self._redis = redis
        self._prefix = prefix + SPENT
        self._now = now

    @errors_by_meaning
    async def add(self, owner: str, amount: int, most: int) -> float | None:
        """Add to what an owner has used, unless that would be more than allowed.

        Returns:
            None if it was added; else the seconds until the next hour begins.
        """
        hour, passed = divmod(self._now(), _HOUR)
        name = f"{self._prefix}{owner}:{hour:.0f}"
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.incrby(name, amount)
            pipe.expire(name, 2 * _HOUR)
            total, _ = await pipe.execute()
        if int(total) <= most:
            return None
        await self._redis.decrby(name, amount)
        return _HOUR - passed
