"""How far the jobs in flight have come, told to the store: the newest of each, and of all of them in one call.

A small image passes its stages within some milliseconds. Telling each would cost more than the stages themselves, and
nobody could see it; so what is told while a call is under way, or shortly after it, goes into the next one.
"""

from __future__ import annotations

import asyncio

import structlog

from shared.errors import Retry
from shared.jobs import Held, JobStore

#: Seconds between two calls: people see it move, Redis hardly notices.
_PAUSE = 0.05

log = structlog.get_logger(__name__)


class Teller:
    """Tells the store of one worker's jobs; must be closed."""

    def __init__(self, store: JobStore, worker: str) -> None:
        """Prepare for a worker of a name."""
        self._store = store
        self._worker = worker
        self._news: dict[Held, tuple[str, int | None]] = {}
        self._task: asyncio.Task[None] | None = None

    def tell(self, held: Held, state: str, progress: int | None = None) -> None:
        """Have the store told, soon, that a job has come to a state, and to a percentage if there is one.

        What is no longer this worker's is not written; the worker itself learns of that when it renews its leases.
        """
        if progress is None:
            _, progress = self._news.get(held, ("", None))
        self._news[held] = (state, progress)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write(), name="tell")

    async def aclose(self) -> None:
        """Stop; what was not told yet is of no use any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _write(self) -> None:
        while self._news:
            news, self._news = self._news, {}
            try:
                await self._store.advance(self._worker, *((held, *come) for held, come in news.items()))
            except Retry as error:
                log.debug("telling-delayed", error=str(error))
                self._news = news | self._news
                await asyncio.sleep(error.after or 1.0)
            await asyncio.sleep(_PAUSE)
