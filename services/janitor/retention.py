"""Forgets ended jobs after their retention: their objects first, then all that Redis keeps of them.

The order makes a crash harmless: a job stays listed as due until its last object is gone, and whoever comes next does
it all again. Only objects that this deployment wrote are deleted.
"""

from __future__ import annotations

import structlog

from services.janitor import metrics
from services.janitor.rounds import Troubles
from shared.errors import InvalidInput
from shared.jobs import JobStore
from shared.storage import Storage

log = structlog.get_logger(__name__)

WORK = "retention"
#: Seconds that a turn lasts without being taken again; the next janitor takes over from one that died.
TURN = 30.0


class Retention:
    """The keeper of the retention periods."""

    def __init__(self, store: JobStore, storage: Storage, name: str, batch: int) -> None:
        """Forget jobs of a store, and their objects in a storage, ``batch`` at a time."""
        self._store, self._storage, self._name, self._batch = store, storage, name, batch
        self._stuck: set[str] = set()  # whose objects could not be deleted

    async def round(self) -> float | None:
        """Forget what is due, unless another janitor is at it; return the seconds until the next is due."""
        if not await self._store.take_turn(WORK, self._name, TURN):
            return None
        try:
            return await self._forget_due()
        finally:
            await self._store.end_turn(WORK, self._name)

    async def _forget_due(self) -> float | None:
        """Forget all that is due; what was stuck before comes last, though it was due first."""
        troubles, tried = Troubles(), set[str]()
        while True:
            ids, due = await self._store.due(self._batch + len(self._stuck))
            fresh = sorted((job_id for job_id in ids if job_id not in tried), key=self._stuck.__contains__)
            for job_id in fresh:
                if not await self._store.take_turn(WORK, self._name, TURN):
                    return None
                tried.add(job_id)
                self._stuck.add(job_id)
                with troubles.passed_over(job_id):
                    await self._forget(job_id)
                    self._stuck.discard(job_id)
            if len(fresh) < self._batch:
                self._stuck &= tried
                troubles.tell()
                return due

    async def _forget(self, job_id: str) -> None:
        objects = await self._store.release_objects(job_id)
        if objects is None:
            return
        deleted = 0
        for name in objects:
            deleted += await delete_own(self._storage, name)
        async for found in self._storage.list(output_prefix(job_id)):
            if found.deployment == self._storage.deployment:
                deleted += await self._storage.delete(found.key)
        jobs = await self._store.forget(job_id, objects)
        metrics.objects.labels("retention").inc(deleted)
        metrics.forgotten.inc(jobs)
        log.info("job-forgotten", job=job_id, jobs=jobs, objects=deleted)


async def delete_own(storage: Storage, name: str) -> bool:
    """Delete an object if this deployment wrote it; return whether it was there and is gone."""
    try:
        found = await storage.stat(name)
    except InvalidInput:  # not there, or no name of an object at all
        return False
    return found.deployment == storage.deployment and await storage.delete(name)


def output_prefix(job_id: str) -> str:
    """Return where all results of a job and its parts lie."""
    return f"output/{job_id.partition(':')[2]}/"
