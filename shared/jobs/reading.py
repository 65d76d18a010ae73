"""Questions about jobs; nothing here changes anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis.exceptions import ResponseError

from shared.jobs import keys
from shared.jobs.base import StoreBase, errors_by_meaning, escaped
from shared.jobs.model import Job, NewJob, is_id, type_of


class Reading(StoreBase):
    """What people and services ask of jobs."""

    @errors_by_meaning
    async def get(self, job_id: str) -> Job | None:
        """Return a job, or None where there is none of this id."""
        try:
            fields = await self.redis.hgetall(self._key(job_id)) if is_id(job_id) else {}
        except ResponseError as error:
            fields = _of_a_hash(error)
        return Job(job_id, fields) if fields else None

    @errors_by_meaning
    async def unknown(self, *jobs: NewJob) -> int:
        """Return how many of some jobs are not there yet, neither by their id nor by their idempotency key."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for job in jobs:
                of_key = f"{self.prefix}{keys.IDEMPOTENCY}{job.owner}:{job.idempotency_key}"
                pipe.exists(self._key(job.id), *([of_key] if job.idempotency_key else []))
            return sum(not known for known in await pipe.execute())

    @errors_by_meaning
    async def get_many(self, job_ids: Sequence[str]) -> list[Job | None]:
        """Return jobs in the order of their ids, None where there is none."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(self._key(job_id))
            answers = [_of_a_hash(answer) for answer in await pipe.execute(raise_on_error=False)]
        return [Job(job_id, fields) if fields else None for job_id, fields in zip(job_ids, answers, strict=True)]

    @errors_by_meaning
    async def get_fields(self, job_id: str, names: Sequence[str]) -> list[str | None]:
        """Return some fields of a job, None for those that it has not; all None where there is no such job."""
        if not is_id(job_id) or not names:
            return [None] * len(names)
        return list(await self.redis.hmget(self._key(job_id), list(names)))

    @errors_by_meaning
    async def fields_of_many(self, asked: Sequence[tuple[str, Sequence[str]]]) -> list[list[str | None]]:
        """Return some fields of each of some jobs, in their order, as `get_fields` does, in one round trip."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for job_id, names in asked:
                # An id of another form could name another key; no job has the empty id.
                pipe.hmget(self._key(job_id if is_id(job_id) else ""), list(names))
            answers = [_of_a_hash(answer) for answer in await pipe.execute(raise_on_error=False)]
        return [
            [None] * len(names) if answer is None else list(answer)
            for (_, names), answer in zip(asked, answers, strict=True)
        ]

    @errors_by_meaning
    async def ranks(self, jobs: Sequence[tuple[str, str]]) -> list[int | None]:
        """Return for each (id, owner) how many of the owner's jobs of its type go first; None if it does not wait."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for job_id, owner in jobs:
                pipe.zrank(f"{self.prefix}{keys.QUEUE}{type_of(job_id)}:{owner}", job_id)
            return list(await pipe.execute())

    @errors_by_meaning
    async def waiting(self, owner: str, types: Sequence[str]) -> int:
        """Return how many jobs of an owner wait in the queues of some types."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for job_type in types:
                pipe.zcard(f"{self.prefix}{keys.QUEUE}{job_type}:{owner}")
            return sum(await pipe.execute())

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

    @errors_by_meaning
    async def kinds(self) -> list[str]:
        """Return every job type that ever had a job, announced or not, in the order of the alphabet."""
        return sorted(await self.redis.smembers(self.prefix + keys.KINDS))

    @errors_by_meaning
    async def expired_leases(self, most: int = 100) -> list[tuple[str, float]]:
        """Return ids of jobs whose lease ran out, with the seconds since; the worst ones first within a job type."""
        now, found = await self._milliseconds(), []
        for kind in await self.kinds():
            rows = await self.redis.zrangebyscore(
                self.prefix + keys.LEASES + kind, "-inf", now, start=0, num=most, withscores=True
            )
            found += [(str(job_id), (now - deadline) / 1000) for job_id, deadline in rows]
        return found

    @errors_by_meaning
    async def known_roots(self, hexes: Sequence[str]) -> set[str]:
        """Return which of some job ids without their type belong to a job of any type."""
        kinds = await self.kinds()
        async with self.redis.pipeline(transaction=False) as pipe:
            for number in hexes:
                for kind in kinds:
                    pipe.exists(self._key(f"{kind}:{number}"))
            answers = await pipe.execute()
        rows = [answers[start : start + len(kinds)] for start in range(0, len(answers), max(1, len(kinds)))]
        return {number for number, row in zip(hexes, rows, strict=False) if any(row)}

    async def all_ids(self) -> AsyncIterator[str]:
        """Yield the ids of all jobs in cursor steps, without holding up Redis."""
        start = len(self.prefix + keys.JOB)
        async for name in self.redis.scan_iter(match=f"{escaped(self.prefix)}{keys.JOB}*", count=1000):
            yield name[start:]


def _of_a_hash(answer: Any) -> Any:
    """Return the answer on one of many jobs; None where its key is no hash: it costs the others nothing."""
    if isinstance(answer, ResponseError) and str(answer).startswith("WRONGTYPE"):
        return None
    if isinstance(answer, Exception):
        raise answer
    return answer
