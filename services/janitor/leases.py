"""Takes jobs back from workers that are gone: expired leases to the front of their queue, or buried."""

from __future__ import annotations

import structlog

from services.janitor import metrics
from shared.jobs import JobStore
from shared.jobs.model import type_of

log = structlog.get_logger(__name__)


class Leases:
    """The keeper of the leases and of the list of workers."""

    def __init__(self, store: JobStore, name: str, batch: int, absent: float) -> None:
        """Keep the leases of a store, at most ``batch`` of a job type in one step."""
        self._store, self._name, self._batch, self._absent = store, name, batch, absent

    async def round(self) -> float | None:
        """Take back what has expired; return the seconds until the next lease ends or delayed job is due."""
        while True:
            outcomes, due = await self._store.reclaim(self._name, (), self._batch)
            self.told(outcomes, "lease-expired")
            if len(outcomes) < self._batch:
                break
        metrics.next_deadline.set(-1 if due is None else due)
        await self._forget_absent()
        return due

    def told(self, outcomes: list[tuple[str, str]], why: str) -> None:
        """Count and log what became of jobs that were taken back."""
        for job_id, outcome in outcomes:
            metrics.repairs.labels(type_of(job_id)[:63], outcome).inc()
            log.warning("job-taken-back", job=job_id, outcome=outcome, why=why)

    async def _forget_absent(self) -> None:
        """Take workers off the lists that said nothing for long and hold nothing; one that wakes announces itself."""
        gone = [worker for worker in await self._store.workers() if worker.absent > self._absent and not worker.held]
        kinds = await self._store.kinds() if gone else []
        for worker in gone:
            await self._store.leave(worker.id, kinds)
            metrics.absent.inc()
            log.info("absent-worker-forgotten", worker=worker.id)
