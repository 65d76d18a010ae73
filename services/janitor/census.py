"""Counts what waits, runs and rests, for the dashboards and alerts; changes nothing."""

from __future__ import annotations

from services.janitor import metrics
from shared.jobs import JobStore


class Census:
    """The keeper of the gauges."""

    def __init__(self, store: JobStore) -> None:
        """Count in a store."""
        self._store = store

    async def round(self) -> float | None:
        """Count once; nothing is due at a known time."""
        for state in (await self._store.queues(await self._store.kinds())).values():
            kind = state.type[:63]
            metrics.queue_waiting.labels(kind).set(state.waiting)
            metrics.queue_running.labels(kind).set(state.running)
            metrics.queue_delayed.labels(kind).set(state.delayed)
            metrics.queue_dead.labels(kind).set(state.dead)
            metrics.queue_oldest_seconds.labels(kind).set(state.oldest_age)
        counts = dict.fromkeys(("alive", "retiring", "absent"), 0)
        for worker in await self._store.workers():
            counts["absent" if not worker.alive else "retiring" if worker.retiring else "alive"] += 1
        for name, count in counts.items():
            metrics.workers.labels(name).set(count)
        return None
