"""A submitter as users have one: over HTTP with an idempotency key, again and again until it is accepted."""

from __future__ import annotations

import asyncio
import random
import secrets
from dataclasses import dataclass

import aiohttp

from shared.errors import Retry
from shared.jobs import JobStore, JobType, NewJob
from shared.jobs.model import new_id
from shared.storage import Storage
from tests.chaos.work import HEAD, TYPES

#: What the frontend offers: it finds the job types where consumers announce them.
OFFERED = [JobType(name=name) for name in TYPES if name not in {"part", "poison"}]


@dataclass(frozen=True)
class Wanted:
    """A job to be submitted: its type, the content of its file, and whose it is (anonymous: over HTTP)."""

    kind: str
    payload: bytes
    owner: str


@dataclass(frozen=True)
class Accepted:
    """A job that was accepted, and the content of its file."""

    id: str
    payload: bytes


def the_jobs(count: int) -> list[Wanted]:
    """Return a mix of jobs: most harmless, some flaky, invalid, of many parts, or killing their worker."""
    jobs = []
    for number in range(count):
        kind = random.choices(("noop", "sleepy", "flaky", "invalid", "bundle"), (54, 32, 8, 3, 3))[0]
        text = str(random.randint(1, 12)) if kind == "bundle" else f"{number}, ü:/{random.random()}"
        jobs.append(Wanted(kind, HEAD + text.encode(), random.choice(("anonymous", "anonymous", "key:a", "key:b,c"))))
    for _ in range(max(2, count // 1000)):
        jobs.insert(random.randrange(len(jobs)), Wanted("poison", HEAD, "anonymous"))
    return jobs


class Client:
    """Submits to a frontend; what the frontend does not offer, and other owners' jobs, straight to the store."""

    def __init__(self, url: str, store: JobStore, storage: Storage) -> None:
        """Prepare; to be used as a context."""
        self._url, self._store, self._storage = url, store, storage
        self.repeated = 0

    async def __aenter__(self) -> Client:
        self._http = aiohttp.ClientSession(self._url, timeout=aiohttp.ClientTimeout(total=10))
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._http.close()

    async def submit(self, wanted: list[Wanted]) -> list[Accepted]:
        """Submit jobs at once; return them when all are accepted."""
        return list(await asyncio.gather(*map(self._submit, wanted)))

    async def _submit(self, wanted: Wanted) -> Accepted:
        if wanted.kind == "poison" or wanted.owner != "anonymous":
            return await self._submit_to_store(wanted)
        file = (await self._insist("/api/v1/files", wanted.payload))["file"]
        order, key = {"type": wanted.kind, "file": file}, secrets.token_hex(8)
        job = await self._insist("/api/v1/jobs", order, {"Idempotency-Key": key})
        return Accepted(str(job["id"]), wanted.payload)

    async def _submit_to_store(self, wanted: Wanted) -> Accepted:
        job_id, file = new_id(wanted.kind), f"uploads/{secrets.token_hex(16)}.tif"
        most = 3 if wanted.kind == "poison" else 100
        await self._storage.put(file, wanted.payload)
        job = NewJob(job_id, {"input_file_name": file}, wanted.owner, max_attempts=most, uses=(file,))
        while True:
            try:
                await self._store.submit(job)
            except Retry:
                await asyncio.sleep(0.05)
            else:
                return Accepted(job_id, wanted.payload)

    async def _insist(
        self, path: str, body: bytes | dict[str, str], headers: dict[str, str] | None = None
    ) -> dict[str, str]:
        """Post until it is accepted: the frontend may be dead, or say that it cannot take anything just now."""
        while True:
            try:
                async with self._http.post(path, headers=headers, **_content(body)) as answer:
                    if answer.status < 300:
                        return dict(await answer.json())
                    if answer.status < 500:
                        raise AssertionError(f"refused: {answer.status} {await answer.text()}")
            except (aiohttp.ClientError, TimeoutError):
                pass
            self.repeated += 1
            await asyncio.sleep(random.uniform(0.05, 0.2))


def _content(body: bytes | dict[str, str]) -> dict[str, object]:
    if isinstance(body, dict):
        return {"json": body}
    form = aiohttp.FormData()
    form.add_field("file", body, filename="a.tif")
    return {"data": form}
