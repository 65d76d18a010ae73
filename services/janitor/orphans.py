"""Removes objects that this deployment wrote and that no job knows: uploads without a job, results of forgotten jobs.

Storage is shared with other deployments and with people, so an object without this deployment's mark is never
touched; and one that is younger than the grace period may still get its job.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import structlog

from services.janitor import metrics
from services.janitor.rounds import Troubles
from services.janitor.settings import OrphanSettings
from shared.jobs import JobStore
from shared.storage import Stat, Storage
from shared.storage.unfinished import sweep_unfinished

log = structlog.get_logger(__name__)

WORK = "orphans"
_TURN = 120.0
_BATCH = 500
_OUTPUT = re.compile(r"output/([0-9a-f]{32})/")


class Orphans:
    """The keeper of the storage."""

    def __init__(self, store: JobStore, storage: Storage, name: str, settings: OrphanSettings) -> None:
        """Look through a storage for what the jobs of a store do not know."""
        self._store, self._storage, self._name, self._settings = store, storage, name, settings

    async def round(self) -> float | None:
        """Look through the storage once, unless another janitor did so lately or is at it."""
        if not await self._store.take_turn(WORK, self._name, _TURN):
            return None
        pause, troubles = 0.0, Troubles()
        try:
            async for batch in self.batches():
                await self._store.take_turn(WORK, self._name, _TURN)
                await self._remove(batch, troubles)
            await sweep_unfinished(self._storage, timedelta(seconds=self._settings.grace))
            pause = self._settings.period
        finally:
            await self._store.end_turn(WORK, self._name, pause)
        troubles.tell()
        return None

    async def batches(self) -> AsyncIterator[list[str]]:
        """Yield the names of objects that may be unknown to every job, some at a time."""
        for folder in ("uploads/", "output/"):
            batch: list[str] = []
            async for found in self._storage.list(folder):
                if not self._may_be_orphan(found):
                    continue
                batch.append(found.key)
                if len(batch) == _BATCH:
                    yield await self._unknown(batch)
                    batch = []
            yield await self._unknown(batch)

    def _may_be_orphan(self, found: Stat) -> bool:
        old = time.time() - found.modified > self._settings.grace
        return old and found.deployment == self._storage.deployment

    async def _unknown(self, names: list[str]) -> list[str]:
        """Return the objects that are not results of a job; which uploads are wanted is known when they are doomed."""
        numbers = {name: match[1] for name in names if (match := _OUTPUT.match(name))}
        known = await self._store.known_roots(sorted(set(numbers.values())))
        return [name for name in names if numbers.get(name) not in known]

    async def doomed(self, names: list[str], *, look: bool = False) -> list[str]:
        """Mark those of some objects that nobody wants, or only look which they are; return them in order."""
        return sorted(await self._store.doom(*names, grace=self._settings.grace, look=look))

    async def _remove(self, names: list[str], troubles: Troubles) -> None:
        for name in await self.doomed(names):
            with troubles.passed_over(name):
                if await self._storage.delete(name):
                    metrics.objects.labels("orphan").inc()
                    log.info("orphan-deleted", object=name)
                await self._store.absolve(name)
