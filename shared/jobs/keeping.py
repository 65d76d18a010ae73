"""What users and the janitor do to jobs from outside: cancel, expire, revive, take back, forget."""

from __future__ import annotations

from collections.abc import Sequence

from redis.asyncio import RedisCluster
from redis.exceptions import ResponseError

from shared.errors import InvalidInput, NotFound
from shared.jobs import keys
from shared.jobs.base import StoreBase, errors_by_meaning, ms
from shared.jobs.model import is_id


class Keeping(StoreBase):
    """Calls that need no claim."""

    @errors_by_meaning
    async def cancel(self, job_id: str, by: str, reason: str = "Canceled on request.") -> int:
        """Cancel a job and its parts; return how many were canceled now (0: all had ended).

        Raises:
            NotFound: there is no such job.
        """
        number = int(await self._run("cancel", self._now(), by, reason, job_id)) if is_id(job_id) else -1
        if number < 0:
            raise NotFound(f"There is no job {job_id!r}.", code="no-such-job")
        return number

    @errors_by_meaning
    async def expire(self, job_id: str, seconds: float | None) -> bool:
        """Set when a job is forgotten: seconds from its end, or from now if it has ended; None keeps it.

        Returns False where there is no such job, or where it is a part of another.
        """
        text = "" if seconds is None else f"{seconds:.15g}"
        return is_id(job_id) and bool(await self._run("expire", self._now(), job_id, text))

    @errors_by_meaning
    async def revive(self, job_id: str, fresh_id: str) -> str:
        """Submit a failed or canceled job again under a fresh id; return that id.

        Raises:
            InvalidInput: there is no such job, it has not failed, or it is a part of another.
        """
        answer = await self._run("revive", self._now(), job_id, fresh_id) if is_id(job_id) else ""
        if not answer:
            raise InvalidInput(
                f"{job_id!r} is not a failed or canceled job that stands for itself.", code="not-revivable"
            )
        return str(answer)

    @errors_by_meaning
    async def reclaim(
        self, by: str, types: Sequence[str] = (), most: int = 100
    ) -> tuple[list[tuple[str, str]], float | None]:
        """Take back jobs whose lease ran out and queue delayed ones that are due; of all job types if none is given.

        Returns:
            Pairs of id and outcome (``requeued``, ``buried``, ``aside``), and the seconds until the next deadline.
        """
        reply = await self._run("reclaim", self._now(), most, by, *types)
        outcomes = [(reply[i], reply[i + 1]) for i in range(1, len(reply), 2)]
        return outcomes, int(reply[0]) / 1000 if int(reply[0]) >= 0 else None

    @errors_by_meaning
    async def evict(self, by: str, worker: str, *, charge: bool) -> list[tuple[str, str]]:
        """Take back at once what a worker holds that is known to be gone; charge each job a loss or not."""
        reply = await self._run("evict", self._now(), by, worker, int(charge))
        return [(reply[i], reply[i + 1]) for i in range(0, len(reply), 2)]

    @errors_by_meaning
    async def due(self, most: int = 100) -> tuple[list[str], float | None]:
        """Return the ids of ended jobs that are due to be forgotten, and the seconds until the next is."""
        reply = await self._run("due", self._now(), most)
        return list(reply[1:]), int(reply[0]) / 1000 if int(reply[0]) >= 0 else None

    @errors_by_meaning
    async def release_objects(self, job_id: str) -> list[str] | None:
        """Begin to forget a job that is due, which cannot be undone: give up its claim on the objects it read.

        Returns:
            Those that no other job names, now marked as doomed; None if the job is not due: somebody kept it.
        """
        begun, *objects = await self._run("release_objects", self._now(), job_id)
        return [str(name) for name in objects] if int(begun) else None

    @errors_by_meaning
    async def forget(self, job_id: str, deleted: Sequence[str]) -> int:
        """Remove an ended job that is due, with its parts, after its objects were deleted; return how many jobs."""
        return int(await self._run("forget", self._now(), job_id, *deleted))

    @errors_by_meaning
    async def doom(self, *objects: str, grace: float = 0, look: bool = False) -> set[str]:
        """Mark objects that nobody wants, so that no job can name them while they are deleted; return those marked.

        Args:
            objects: as they are in storage.
            grace: s for which an upload is wanted though no job named it yet.
            look: only tell which would be marked.
        """
        return set(await self._run("doom", self._now(), ms(grace), int(look), *objects)) if objects else set()

    @errors_by_meaning
    async def absolve(self, *objects: str) -> None:
        """Take the mark off objects: they are deleted, and their names may be used again."""
        if objects:
            await self.redis.srem(self.prefix + keys.DOOMED, *objects)

    @errors_by_meaning
    async def take_turn(self, work: str, by: str, seconds: float) -> bool:
        """Take or keep the turn at a piece of housekeeping; False while another has it or it was done lately."""
        return bool(await self._run("turn", self._now(), work, by, ms(seconds), "begin"))

    @errors_by_meaning
    async def end_turn(self, work: str, by: str, pause: float = 0) -> None:
        """Give the turn back; nobody gets it for ``pause`` seconds."""
        await self._run("turn", self._now(), work, by, ms(pause), "end")

    @errors_by_meaning
    async def life(self) -> str:
        """Return what names this life of the server: another after each start. Empty on a cluster, of many servers."""
        return "" if isinstance(self.redis, RedisCluster) else str((await self.redis.info("server"))["run_id"])

    @errors_by_meaning
    async def rewrite_log(self) -> str:
        """Have the server write its append-only log anew, if it keeps one; return why it refuses to, or nothing."""
        if not (await self.redis.info("persistence")).get("aof_enabled"):
            return ""
        try:
            await self.redis.bgrewriteaof()
        except ResponseError as error:  # managed servers do not let their users, and care for it themselves
            return str(error)
        return ""

    @errors_by_meaning
    async def audited(self, script: str, repair: bool, *arguments: str | int) -> list[str]:
        """Run one of the auditor's scripts; see `shared.jobs.audit`."""
        return list(await self._run(script, self._now(), int(repair), *arguments))
