"""How long a job may still take: by its place in the queue, and by how long jobs of its type took."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.jobs import JobStore
from shared.jobs.model import QueueState, type_of

#: s for which the state of the queues is believed, and before an owner's past jobs are looked at again.
_QUEUES_FRESH = 1.0
_LOOK_AGAIN = 60.0
_MOST_ASKED = 10_000
#: Of an owner's past jobs, as many as are looked at.
_PAST = 100
#: The weight of each new job: the last five or so count.
_NEW = 0.2


@dataclass(frozen=True, slots=True)
class Estimate:
    """The place of a waiting job among its owner's own of the type, from 1; s until it is done, None: not known."""

    position: int
    seconds: float | None


class Estimates:
    """What is known of the queues, and of the time that jobs take."""

    def __init__(self, store: JobStore) -> None:
        """Know nothing yet."""
        self._store = store
        self._queues: tuple[float, dict[str, QueueState]] = (float("-inf"), {})
        self._seconds: dict[str, float] = {}
        self._asked: dict[tuple[str, str], float] = {}

    def learn(self, kind: str, total_time: str | None) -> None:
        """Take note of how long a job took (s, as its hash says)."""
        took = _seconds_of(total_time)
        if took is not None:
            self._seconds[kind] = (1 - _NEW) * self._seconds.get(kind, took) + _NEW * took

    def left(self, kind: str, progress: int) -> float | None:
        """Return the seconds that a job under way may still take; None: not known."""
        seconds = self._seconds.get(kind)
        return None if seconds is None else seconds * (1 - min(100, max(0, progress)) / 100)

    async def of_waiting(self, jobs: Sequence[tuple[str, str]]) -> list[Estimate | None]:
        """Return the estimate for each waiting job, given by id and owner; None for one that does not wait any more."""
        kinds = {(type_of(job_id), owner) for job_id, owner in jobs}
        queues = await self._queues_of({kind for kind, _ in kinds})
        await self.look_back(kinds)
        ranks = await self._store.ranks(jobs)
        return [
            None if rank is None else Estimate(rank + 1, self._until_done(queues[type_of(job_id)], rank))
            for (job_id, _), rank in zip(jobs, ranks, strict=True)
        ]

    def _until_done(self, queue: QueueState, rank: int) -> float | None:
        """Return how long it may take: owners take turns, so that before each of one's own jobs go others' ones."""
        seconds = self._seconds.get(queue.type)
        if seconds is None:
            return None
        others = (max(1, queue.owners) - 1) * (rank + 1)
        ahead = max(rank, min(rank + others, queue.waiting - 1))
        return seconds * (1 + ahead / max(1, queue.running))

    async def look_back(self, kinds: Iterable[tuple[str, str]]) -> None:
        """Learn from an owner's past jobs what no job that was watched has taught: after a start, say."""
        now = time.monotonic()
        for kind, owner in kinds:
            if kind in self._seconds or now - self._asked.get((kind, owner), float("-inf")) < _LOOK_AGAIN:
                continue
            if len(self._asked) >= _MOST_ASKED:
                self._asked.clear()
            self._asked[kind, owner] = now
            ids = [job_id for job_id, _ in await self._store.owned(owner, count=_PAST) if type_of(job_id) == kind]
            told = await self._store.fields_of_many([(one, ("total_time",)) for one in ids])
            if took := [seconds for (text,) in told if (seconds := _seconds_of(text)) is not None]:
                self._seconds.setdefault(kind, statistics.median(took))

    async def _queues_of(self, kinds: set[str]) -> dict[str, QueueState]:
        read_at, queues = self._queues
        now = time.monotonic()
        if now - read_at > _QUEUES_FRESH or not kinds <= queues.keys():
            queues = dict(await self._store.queues(sorted(kinds | queues.keys())))
            self._queues = (now, queues)
        return queues


def _seconds_of(text: str | None) -> float | None:
    """Return a time (s) as a job's hash tells it; None where it is none."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if seconds >= 0 and math.isfinite(seconds) else None
