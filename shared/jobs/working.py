"""What submitters and workers do to jobs, each call one atomic step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from shared.errors import InvalidInput, LostLease
from shared.jobs.base import StoreBase, errors_by_meaning, flat, ms, pairs, tokens
from shared.jobs.model import Claim, Held, Job, NewJob, Submitted

#: Jobs in one script call: a call of this size takes some 10 ms, during which Redis serves nobody else.
BATCH = 500


class Working(StoreBase):
    """Submit, claim, and everything that a claim allows."""

    @errors_by_meaning
    async def submit(self, *jobs: NewJob) -> list[Submitted]:
        """Submit jobs; each is written and queued in one step, or was known by its id or idempotency key.

        Raises:
            NotFound: a job names an object that is just being deleted.
        """
        answers: list[Submitted] = []
        for start in range(0, len(jobs), BATCH):
            batch = jobs[start : start + BATCH]
            arguments = [argument for job in batch for argument in _submit_arguments(job)]
            reply = await self._run("submit", self._now(), len(batch), *arguments)
            answers += [Submitted(reply[i], bool(reply[i + 1])) for i in range(0, len(reply), 2)]
        return answers

    @errors_by_meaning
    async def claim(self, worker: str, types: Sequence[str], count: int, lease: float) -> Claim:
        """Claim up to ``count`` jobs of some types for ``lease`` seconds; a worker that gets fewer is parked."""
        reply = await self._run("claim", self._now(), worker, count, ms(lease), *types)
        due, retiring = int(reply[0]), bool(reply[1])
        jobs = tuple(Job(reply[i], pairs(reply[i + 1])) for i in range(2, len(reply), 2))
        return Claim(jobs, due / 1000 if due >= 0 else None, retiring)

    @errors_by_meaning
    async def renew(self, worker: str, lease: float, held: Iterable[Held]) -> set[str]:
        """Renew leases for ``lease`` seconds from now; return the ids that are no longer the worker's."""
        return set(await self._run("renew", self._now(), worker, ms(lease), *tokens(held)))

    @errors_by_meaning
    async def advance(self, worker: str, *moves: tuple[Held, str, int | None]) -> list[bool]:
        """Say how far jobs have come: a working state, and percent or None; False for those no longer the worker's."""
        arguments: list[str | int] = []
        for held, state, progress in moves:
            arguments += [held.id, held.attempt, state, "" if progress is None else progress]
        return [bool(moved) for moved in await self._run("advance", self._now(), worker, *arguments)]

    @errors_by_meaning
    async def complete(self, worker: str, *results: tuple[Held, Mapping[str, str]]) -> list[bool]:
        """Make jobs done, with the facts found out; False for those that are no longer the worker's."""
        arguments: list[str | int] = []
        for held, facts in results:
            arguments += [held.id, held.attempt, len(facts), *flat(facts)]
        return [bool(done) for done in await self._run("complete", self._now(), worker, len(results), *arguments)]

    @errors_by_meaning
    async def fail(
        self,
        worker: str,
        held: Held,
        reason: str,
        *,
        again_in: float | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> str:
        """End an attempt that failed.

        Args:
            reason: a sentence for people.
            again_in: None if the input is at fault: the job is failed and never retried. Else seconds until it may
                be tried again; one loss is charged.

        Returns:
            ``failed``, ``requeued`` or ``buried``.

        Raises:
            LostLease: the job is no longer the worker's.
        """
        retry, delay = ("0", 0) if again_in is None else ("1", ms(again_in))
        outcome = await self._run(
            "fail", self._now(), worker, held.id, held.attempt, reason, retry, delay, *flat(facts or {})
        )
        if not outcome:
            raise LostLease(f"{held.id} is no longer held by {worker}.")
        return str(outcome)

    @errors_by_meaning
    async def release(self, worker: str, held: Iterable[Held]) -> int:
        """Hand jobs back unfinished, uncharged, at the front of their queue; return how many were the worker's."""
        shown = list(tokens(held))
        return int(await self._run("release", self._now(), worker, *shown)) if shown else 0

    @errors_by_meaning
    async def split(
        self,
        worker: str,
        held: Held,
        children: Sequence[tuple[str, Mapping[str, str]]],
        facts: Mapping[str, str] | None = None,
    ) -> int:
        """Split a job into children (job type and facts of each); it waits for them and is then claimed once more.

        Raises:
            LostLease: the job is no longer the worker's.
            InvalidInput: it was split before, or into nothing.
        """
        if not children:
            raise InvalidInput("A job cannot be split into no parts.", code="empty-split")
        arguments: list[str | int] = [len(facts or {}), *flat(facts or {}), len(children)]
        for job_type, child_facts in children:
            arguments += [job_type, len(child_facts), *flat(child_facts)]
        number = int(await self._run("split", self._now(), worker, held.id, held.attempt, *arguments))
        if number == -1:
            raise LostLease(f"{held.id} is no longer held by {worker}.")
        if number == -2:
            raise InvalidInput(f"{held.id} was split before.", code="split-twice")
        return number


def _submit_arguments(job: NewJob) -> list[str | int]:
    retention = "" if job.retention is None else f"{job.retention:.15g}"
    head: list[str | int] = [job.id, job.owner, job.priority, job.max_attempts]
    head += [retention, job.idempotency_key, job.batch, len(job.uses), *job.uses]
    return [*head, len(job.facts), *flat(job.facts)]
