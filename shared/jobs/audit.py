"""The auditor: reads every key in cursor steps, and reports whatever breaks a promise of the data model.

Redis is never held up: keys come from SCAN, members from SSCAN, HSCAN and ZSCAN, and each suspicion is checked, and
repaired if asked, in a short script that sees one job, entry or queue at one moment. So it may run beside everything
else at any time, and reports nothing that was only in passing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import RedisCluster

from shared.jobs import keys
from shared.jobs.base import errors_by_meaning, escaped
from shared.jobs.model import is_id
from shared.jobs.store import JobStore

_STEP = 100

#: Kinds of keys by their first word: the type that Redis must say, and whether members name jobs.
_SHAPES: dict[str, tuple[str, bool]] = {
    keys.JOB: ("hash", False),
    keys.HISTORY: ("list", False),
    keys.CHILDREN: ("list", False),
    keys.OPEN: ("string", False),
    keys.QUEUE: ("zset", True),
    keys.DELAYED: ("zset", True),
    keys.DEPTH: ("string", False),
    keys.LEASES: ("zset", True),
    keys.HELD: ("set", True),
    keys.WORKERS: ("zset", False),
    keys.WORKER: ("hash", False),
    keys.RETIRING: ("set", False),
    keys.IDLE: ("zset", False),
    keys.DEAD: ("zset", True),
    keys.EXPIRY: ("zset", True),
    keys.EXPIRE_AFTER: ("hash", True),
    keys.DOOMED: ("set", False),
    keys.USES: ("set", True),
    keys.CONTENT: ("hash", True),
    keys.UPLOAD: ("hash", False),
    keys.OWNED: ("zset", True),
    keys.BATCH: ("zset", True),
    keys.IDEMPOTENCY: ("string", False),
    keys.TYPES: ("hash", False),
    keys.MODELS: ("string", False),
    keys.KINDS: ("set", False),
    keys.TURN: ("string", False),
    "sequence": ("string", False),
    "turn": ("string", False),
    keys.WAKE: ("string", False),
    "hint:": ("string", False),
    keys.AUTOSCALER: ("hash", False),
    keys.SCHEMA: ("string", False),
    keys.AUTH_KEYS: ("hash", False),
    keys.AUTH_SECRET: ("string", False),
    keys.SPENT: ("string", False),
    keys.WEBHOOKS: ("zset", False),
    keys.USAGE: ("hash", False),
}
#: Keys that belong to the one job or upload that they are named by, or name one job as their value.
_OF_ONE = (keys.HISTORY, keys.CHILDREN, keys.OPEN, keys.IDEMPOTENCY, keys.UPLOAD)


@dataclass(frozen=True)
class Finding:
    """Something that is not as it must be.

    Attributes:
        code: stable word for the kind of fault, such as ``running-without-lease``.
        subject: the job id, job type or key that it is about.
        sentence: what is wrong, for people.
        repaired: whether it was put right.
    """

    code: str
    subject: str
    sentence: str
    repaired: bool = False


async def audit(store: JobStore, repair: bool = False) -> list[Finding]:
    """Read the whole keyspace of a deployment and return what is broken; with ``repair``, put right what can be.

    Raises:
        Retry: Redis is away or takes no changes.
    """
    return [finding async for finding in Auditor(store, repair).findings()]


class Auditor:
    """One walk through the keys of a deployment."""

    def __init__(self, store: JobStore, repair: bool = False) -> None:
        """Prepare; nothing is read before `findings`."""
        self._store, self._repair = store, repair
        self._owners: dict[str, set[str]] = {}
        self.keys_read = 0

    async def findings(self) -> AsyncIterator[Finding]:
        """Yield what is broken, as it is found."""
        jobs: list[str] = []
        async for names in self._steps():
            for name, shape in await self._shapes(names):
                kind = kind_of(name)
                if kind is None or _SHAPES[kind][0] != shape:
                    yield _strange(name, shape, kind)
                    if kind != keys.JOB:
                        continue
                if kind == keys.JOB:
                    jobs.append(name[len(kind) :])
                elif kind is not None:
                    async for finding in self._entries(kind, name):
                        yield finding
            for finding in await self._jobs(jobs):
                yield finding
            jobs = []
        for finding in await self._queues():
            yield finding

    async def _steps(self) -> AsyncIterator[list[str]]:
        """Yield the names of all keys, without the prefix, some at a time."""
        start, cursor = len(self._store.prefix), 0
        while True:
            cursor, found = await self._scan(cursor)
            self.keys_read += len(found)
            for first in range(0, len(found), _STEP):
                yield [name[start:] for name in found[first : first + _STEP]]
            if cursor == 0:
                return

    @errors_by_meaning
    async def _scan(self, cursor: int) -> tuple[int, list[str]]:
        redis, where = self._store.redis, {}
        if isinstance(redis, RedisCluster):  # all keys are at one node, and a cursor is good for one node only
            where = {"target_nodes": [redis.get_node_from_key(self._store.prefix)]}
        after, names = await redis.scan(cursor, match=escaped(self._store.prefix) + "*", count=_STEP * 5, **where)
        return int(next(iter(after.values())) if isinstance(after, dict) else after), list(names)

    @errors_by_meaning
    async def _shapes(self, names: list[str]) -> list[tuple[str, str]]:
        async with self._store.redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.type(self._store.prefix + name)
            shapes = await pipe.execute()
        return [(name, shape) for name, shape in zip(names, shapes, strict=True) if shape != "none"]

    async def _entries(self, kind: str, name: str) -> AsyncIterator[Finding]:
        rest = name[len(kind) :]
        if kind == keys.QUEUE:
            job_type, is_queue, owner = rest.partition(":")
            owners = self._owners.setdefault(job_type, set())
            if not is_queue:
                return
            owners.add(owner)
        elif kind == keys.DEPTH:
            self._owners.setdefault(rest, set())
        if kind in _OF_ONE:
            for finding in await self._check(kind, rest, [rest]):
                yield finding
        elif _SHAPES[kind][1]:
            async for members in self._members(kind, name):
                for finding in await self._check(kind, rest, members):
                    yield finding

    async def _members(self, kind: str, name: str) -> AsyncIterator[list[str]]:
        redis, key = self._store.redis, self._store.prefix + name
        scan = {"zset": redis.zscan, "set": redis.sscan, "hash": redis.hscan}[_SHAPES[kind][0]]
        cursor: Any = None
        while cursor != 0:
            cursor, found = await errors_by_meaning(scan)(key, cursor or 0, count=_STEP)
            members = [member[0] if isinstance(member, tuple) else member for member in found]
            for first in range(0, len(members), _STEP):
                yield members[first : first + _STEP]

    async def _check(self, kind: str, rest: str, members: list[str]) -> list[Finding]:
        return await self._ask("audit_entries", kind, rest, *members)

    async def _jobs(self, ids: list[str]) -> list[Finding]:
        wrong = [Finding("malformed-job", name, f"{name!r} is not a job id.") for name in ids if not is_id(name)]
        sound = [name for name in ids if is_id(name)]
        return wrong + (await self._ask("audit_jobs", "audit", *sound) if sound else [])

    async def _queues(self) -> list[Finding]:
        found: list[Finding] = []
        for kind, owners in sorted(self._owners.items()):
            found += await self._ask("audit_queues", kind, len(owners), *sorted(owners))
        return found

    async def _ask(self, script: str, *arguments: str | int) -> list[Finding]:
        reply = await self._store.audited(script, self._repair, *arguments)
        return [
            Finding(code, subject, f"{subject}: {detail}.", self._repair) for code, subject, detail in _triples(reply)
        ]


def kind_of(name: str) -> str | None:
    """Return the kind of a key (its first word as in `shared.jobs.keys`); None for one that is not of the suite."""
    if name in _SHAPES:
        return name
    word, colon, _rest = name.partition(":")
    kind = word + colon
    return kind if kind in _SHAPES else None


def _strange(name: str, shape: str, kind: str | None) -> Finding:
    if kind is None:
        return Finding("unknown-key", name, f"The key {name!r} is none of the suite's.")
    return Finding("wrong-shape", name, f"The key {name!r} is a {shape}; it must be a {_SHAPES[kind][0]}.")


def _triples(reply: Iterable[str]) -> Iterable[tuple[str, str, str]]:
    items = iter(reply)
    return zip(items, items, items, strict=True)
