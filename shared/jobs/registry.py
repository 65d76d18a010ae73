"""Who works, what waits, and which job types there are."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any

from shared.errors import Misconfigured
from shared.jobs import keys
from shared.jobs.base import StoreBase, errors_by_meaning, flat, ms
from shared.jobs.model import JobType, QueueState, WorkerState


class Registry(StoreBase):
    """Workers, queues, job types, decisions, schema."""

    @errors_by_meaning
    async def heartbeat(self, worker: str, lasts: float, facts: Mapping[str, str] | None = None) -> bool:
        """Say that a worker lives for ``lasts`` seconds more; return whether it was told to retire."""
        return bool(await self._run("heartbeat", self._now(), worker, ms(lasts), *flat(facts or {})))

    @errors_by_meaning
    async def leave(self, worker: str, types: Sequence[str]) -> None:
        """Take a stopping worker off all lists."""
        await self._run("leave", self._now(), worker, *types)

    @errors_by_meaning
    async def unpark(self, worker: str, types: Sequence[str]) -> None:
        """Let a worker that will claim no more be woken no more; another is, if work waits."""
        await self._run("unpark", self._now(), worker, *types)

    @errors_by_meaning
    async def held(self, worker: str) -> set[str]:
        """Return the ids of the jobs that a worker holds."""
        return set(await self.redis.smembers(self.prefix + keys.HELD + worker))

    @errors_by_meaning
    async def retire(self, *workers: str) -> set[str]:
        """Mark workers that hold nothing as retiring: claim refuses them from now on. Return those marked."""
        return set(await self._run("retire", self._now(), *workers)) if workers else set()

    @errors_by_meaning
    async def unretire(self, *workers: str) -> None:
        """Let workers claim again."""
        if workers:
            await self.redis.srem(self.prefix + keys.RETIRING, *workers)

    @errors_by_meaning
    async def workers(self) -> list[WorkerState]:
        """Return all workers that have announced themselves and not left."""
        alive_until: dict[str, float] = dict(
            await self.redis.zrange(self.prefix + keys.WORKERS, 0, -1, withscores=True)
        )
        retiring = set(await self.redis.smembers(self.prefix + keys.RETIRING))
        now = await self._milliseconds()
        async with self.redis.pipeline(transaction=False) as pipe:
            for worker in alive_until:
                pipe.hgetall(self.prefix + keys.WORKER + worker)
                pipe.scard(self.prefix + keys.HELD + worker)
            answers = await pipe.execute()
        return [
            WorkerState(
                worker,
                answers[2 * i],
                answers[2 * i + 1],
                alive=until > now,
                retiring=worker in retiring,
                absent=max(0.0, (now - until) / 1000),
            )
            for i, (worker, until) in enumerate(alive_until.items())
        ]

    @errors_by_meaning
    async def queues(self, types: Sequence[str]) -> dict[str, QueueState]:
        """Return the state of each type's queue, all at one moment."""
        rows = await self._run("queues", self._now(), *types) if types else []
        return {
            kind: QueueState(kind, row[0] - row[2], row[1], row[2], row[3], row[4] / 1000, row[5])
            for kind, row in zip(types, ([int(value) for value in row] for row in rows), strict=True)
        }

    @errors_by_meaning
    async def announce(self, *types: JobType) -> None:
        """Tell everybody of the job types that this process serves."""
        if types:
            await self.redis.hset(self.prefix + keys.TYPES, mapping={t.name: json.dumps(_described(t)) for t in types})

    @errors_by_meaning
    async def types(self) -> dict[str, JobType]:
        """Return all announced job types by name, in their order for lists."""
        raw = await self.redis.hgetall(self.prefix + keys.TYPES)
        types = [_described_type(json.loads(text)) for text in raw.values()]
        return {t.name: t for t in sorted(types, key=lambda t: (t.rank, t.name))}

    @errors_by_meaning
    async def announce_models(self, models: Mapping[str, Sequence[str]]) -> None:
        """Tell everybody which models are served now: names to versions; what was announced before is replaced."""
        await self.redis.set(
            self.prefix + keys.MODELS, json.dumps({name: list(versions) for name, versions in models.items()})
        )

    @errors_by_meaning
    async def models(self) -> dict[str, list[str]]:
        """Return the models that were announced last, by name, with their versions; empty where none ever were."""
        return dict(json.loads(await self.redis.get(self.prefix + keys.MODELS) or "{}"))

    @errors_by_meaning
    async def tell_decisions(self, decisions: Mapping[str, str]) -> None:
        """Keep the autoscaler's last decision of each target (JSON) for people to read."""
        if decisions:
            await self.redis.hset(self.prefix + keys.AUTOSCALER, mapping=dict(decisions))

    @errors_by_meaning
    async def decisions(self) -> dict[str, str]:
        """Return the autoscaler's last decision of each target, as JSON."""
        return dict(await self.redis.hgetall(self.prefix + keys.AUTOSCALER))

    @errors_by_meaning
    async def usage(self, day: dt.date) -> dict[str, dict[str, float]]:
        """Return by owner what the jobs used that ended on a day (UTC): names of `shared.costs.Use`, and ``jobs``."""
        found: dict[str, dict[str, float]] = {}
        for name, value in (await self.redis.hgetall(f"{self.prefix}{keys.USAGE}{day:%Y-%m-%d}")).items():
            what, _, owner = name.partition(":")
            found.setdefault(owner, {})[what] = float(value)
        return found

    @errors_by_meaning
    async def ping(self) -> None:
        """Raise Retry unless Redis answers."""
        await self.redis.exists(self.prefix)  # of a cluster, it asks the node that holds the keys

    @errors_by_meaning
    async def schema(self) -> int | None:
        """Return the version of the keys' schema that Redis holds; None before the first service's start.

        Raises:
            Misconfigured: it is no number.
        """
        found = await self.redis.get(self.prefix + keys.SCHEMA)
        if found is not None and not str(found).isdecimal():
            raise Misconfigured(f"Redis holds the schema {found!r}, which is no number: do these keys belong to us?")
        return None if found is None else int(found)

    @errors_by_meaning
    async def set_schema(self, version: int, *, first: bool = False) -> None:
        """Write the version of the keys' schema; ``first``: only where there is none."""
        await self.redis.set(self.prefix + keys.SCHEMA, str(version), nx=first)


def _described(job_type: JobType) -> dict[str, Any]:
    return {name: getattr(job_type, name) for name in JobType.__dataclass_fields__}


def _described_type(raw: Mapping[str, Any]) -> JobType:
    known = {name: raw[name] for name in JobType.__dataclass_fields__ if name in raw}
    known["aliases"] = tuple(known.get("aliases", ()))
    known["accepts"] = tuple(known.get("accepts", ()))
    return JobType(**known)
