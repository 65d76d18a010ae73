"""Questions about jobs; nothing here changes anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from shared.jobs import keys
from shared.jobs.base import StoreBase, errors_by_meaning
from shared.jobs.model import Job, is_id


class Reading(StoreBase):
    """What people and services ask of jobs."""

    @errors_by_meaning
    async def get(self, job_id: str) -> Job | None:
        """Return a job, or None where there is none of this id."""
        fields = await self.redis.hgetall(self._key(job_id)) if is_id(job_id) else {}
        return Job(job_id, fields) if fields else None

    @errors_by_meaning
    async def get_many(self, job_ids: Sequence[str]) -> list[Job | None]:
        """Return jobs in the order of their ids, None where there is none."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(self._key(job_id))
            answers = await pipe.execute()
        return [Job(job_id, fields) if fields else None for job_id, fields in zip(job_ids, answers, strict=True)]

    @errors_by_meaning
    async def get_fields(self, job_id: str, names: Sequence[str]) -> list[str | None]:
        """Return some fields of a job, None for those that it has not; all None where there is no such job."""
        if not is_id(job_id) or not names:
            return [None] * len(names)
        return list(await self.redis.hmget(self._key(job_id), list(names)))

    @errors_by_meaning
    async def children(self, job_id: str) -> list[str]:
        """Return the ids of a job's parts in their order."""
        return list(await self.redis.lrange(self.prefix + keys.CHILDREN + job_id, 0, -1))

    @errors_by_meaning
    async def history(self, job_id: str) -> list[str]:
        """Return what became of a job's lost attempts, oldest first."""
        return list(await self.redis.lrange(self.prefix + keys.HISTORY + job_id, 0, -1))

    @errors_by_meaning
    async def owned(self, owner: str, before_ms: float = float("inf"), count: int = 50) -> list[tuple[str, int]]:
        """Return ids and creation times (ms) of an owner's jobs created before a time, newest first."""
        return await self._newest(keys.OWNED + owner, before_ms, count)

    @errors_by_meaning
    async def batch(self, batch: str, before_ms: float = float("inf"), count: int = 10_000) -> list[tuple[str, int]]:
        """Return ids and creation times (ms) of a batch's jobs, newest first."""
        return await self._newest(keys.BATCH + batch, before_ms, count)

    @errors_by_meaning
    async def users(self, object_name: str) -> set[str]:
        """Return the ids of the jobs that name an object."""
        return set(await self.redis.smembers(self.prefix + keys.USES + object_name))

    async def all_ids(self) -> AsyncIterator[str]:
        """Yield the ids of all jobs in cursor steps, without holding up Redis."""
        start = len(self.prefix + keys.JOB)
        async for name in self.redis.scan_iter(match=f"{_escaped(self.prefix)}{keys.JOB}*", count=1000):
            yield name[start:]


def _escaped(prefix: str) -> str:
    return "".join(f"\\{c}" if c in "*?[]\\" else c for c in prefix)
