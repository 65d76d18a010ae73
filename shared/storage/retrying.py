"""What is tried again when a bucket fails, how often, and how long after."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from shared.errors import Misconfigured, NotFound, Retry

PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Answers that another try may change: https://cloud.google.com/storage/docs/retry-strategy."""

TROUBLE = (aiohttp.ClientError, TimeoutError, ConnectionError)
"""What a call over the network may raise."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long: the n-th pause is a random share of ``first * 2**n`` s, at most ``longest`` s."""

    tries: int = 6
    first: float = 0.5
    longest: float = 16.0
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep

    def worth(self, error: BaseException, failures: int) -> bool:
        """Whether to try again after that many failures in a row."""
        if isinstance(error, aiohttp.ClientResponseError) and error.status not in PASSING:
            return False
        return failures < self.tries

    async def before(self, failures: int, error: BaseException | None = None) -> None:
        """Wait before the next try: as long as the answer asked for, if it did, else by the rule.

        Full jitter, so that the many who were cut off together do not come back together.
        """
        asked = retry_after(error)
        ours = random.random() * min(self.longest, self.first * 2**failures)
        await self.pause(ours if asked is None else asked)


def as_error(error: BaseException, about: str, bucket: str) -> Exception:
    """Return the error of ours that says what happened to the object ``about``."""
    status = error.status if isinstance(error, aiohttp.ClientResponseError) else 0
    if status == 404:
        return NotFound(f"There is no object {about!r} in the storage.")
    if status in {401, 403}:
        return Misconfigured(f"The bucket {bucket!r} refuses this service's credentials (HTTP {status}).")
    what = f"answers HTTP {status}" if status else f"does not answer ({type(error).__name__})"
    return Retry(f"The bucket {bucket!r} {what}: try again later.", after=retry_after(error) or 5.0)


def retry_after(error: BaseException | None) -> float | None:
    """Return the seconds that the answer asked to wait, at most a minute; None if it did not."""
    if not isinstance(error, aiohttp.ClientResponseError) or error.headers is None:
        return None
    try:
        return min(60.0, max(0.0, float(error.headers.get("Retry-After", ""))))
    except ValueError:
        return None
