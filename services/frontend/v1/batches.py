"""Batches: one job for each of many files, with one progress."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import structlog
from aiohttp import web

from services.frontend import sniff
from services.frontend.auth import principal
from services.frontend.body import read_model
from services.frontend.context import frontend
from services.frontend.submission import Order
from services.frontend.uploads import Found
from services.frontend.v1.jobs import idempotency_key, work_facts
from services.frontend.v1.models import BatchView, Canceled, NewBatchFile, NewBatchRequest
from services.frontend.v1.routing import answer
from services.frontend.v1.views import cost_of
from shared.costs import USE
from shared.errors import InvalidInput, NotFound
from shared.jobs import Job
from shared.jobs.model import percent
from shared.jobs.states import FINAL

T = TypeVar("T")

log = structlog.get_logger(__name__)

#: Bytes of JSON that one file may take.
_ENTRY = 2_000
#: Files looked for, or jobs canceled, at once.
_AT_ONCE = 32
#: Jobs read in one go, of the most that a batch may have.
_READ, _MOST = 1_000, 100_000
#: Of each job what is asked of a whole batch: it may have as many.
_FIELDS = ("owner", "status", "progress", "reason", "original_name", "output_file_name", "revived_from", *USE)


async def submit(request: web.Request) -> web.Response:
    """Submit one job for each file; all or none. The same again with the same key is the same batch."""
    front, owner = frontend(request), principal(request).owner
    limit = front.settings.json_bytes + front.settings.jobs.batch_files * _ENTRY
    wish = await read_model(request, NewBatchRequest, limit)
    if len(wish.files) > front.settings.jobs.batch_files:
        raise InvalidInput(
            f"The batch has {len(wish.files)} files; at most {front.settings.jobs.batch_files} are allowed.",
            code="too-large",
        )
    key = idempotency_key(request)
    batch = _batch_of(owner, key) if key else secrets.token_hex(16)
    base = Order(
        kind=await front.catalogue.find(wish.type),
        key="",
        name="",
        options=wish.options,
        model=wish.model,
        version=wish.model_version,
        owner=owner,
        priority=wish.priority,
        batch=batch,
        facts=await work_facts(request, wish),
    )
    files = await _found(request, wish.files)
    orders = [
        replace(
            base,
            key=file.key,
            name=sniff.base_name(entry.name or file.name),
            idempotency_key=f"batch:{batch}:{number}" if key else "",
        )
        for number, (entry, file) in enumerate(zip(wish.files, files, strict=True))
    ]
    if key:
        await _refuse_other_number(request, batch, len(orders))
    submitted = [one for one in await front.desk.submit_batch(orders) if one.created]
    for one in submitted if "webhook" in base.facts else ():
        await front.webhooks.follow(one.id)
    log.info("batch-submitted", batch=batch, owner=owner, jobs=len(submitted))
    view = _view(request, batch, await own_batch(request, batch))
    return answer(view, 201 if submitted else 200, {"Location": f"/api/v1/batches/{batch}"})


async def get(request: web.Request) -> web.Response:
    """Tell of a batch."""
    batch = request.match_info["id"]
    return answer(_view(request, batch, await own_batch(request, batch)))


async def cancel(request: web.Request) -> web.Response:
    """Cancel all jobs of a batch."""
    jobs = [job for job in await own_batch(request, request.match_info["id"]) if not job.final]
    store, by = frontend(request).store, f"owner {principal(request).owner}"
    canceled = 0
    for some in _in_parts(jobs, _AT_ONCE):
        canceled += sum(await asyncio.gather(*(store.cancel(job.id, by) for job in some)))
    return answer(Canceled(canceled=canceled))


async def own_batch(request: web.Request, batch: str) -> list[Job]:
    """Return the jobs of a batch that are the asker's, oldest first, each with the fields that a batch needs.

    Raises:
        NotFound: there are none.
    """
    store, who = frontend(request).store, principal(request)
    ids = [job_id for job_id, _ in reversed(await store.batch(batch, count=_MOST))]
    mine: list[Job] = []
    for some in _in_parts(ids, _READ):
        for job_id, values in zip(some, await store.fields_of_many([(one, _FIELDS) for one in some]), strict=True):
            job = Job(job_id, {name: value for name, value in zip(_FIELDS, values, strict=True) if value is not None})
            if job.status and who.sees(job.owner):
                mine.append(job)
    if not mine:
        raise NotFound("There is no such batch. It may have expired.", code="no-such-batch")
    return mine


def last_tries(jobs: Sequence[Job]) -> list[Job]:
    """Leave out the jobs that another one of these tries again."""
    before = {job.fields.get("revived_from") for job in jobs}
    return [job for job in jobs if job.id not in before]


def _batch_of(owner: str, key: str) -> str:
    return hashlib.sha256(f"{owner}\n{key}".encode()).hexdigest()[:32]


async def _refuse_other_number(request: web.Request, batch: str, number: int) -> None:
    store = frontend(request).store
    ids = [job_id for job_id, _ in await store.batch(batch, count=_MOST)]
    earlier: set[str | None] = set()
    for some in _in_parts(ids, _READ):
        earlier |= {values[0] for values in await store.fields_of_many([(one, ["revived_from"]) for one in some])}
    known = len(set(ids) - earlier)
    if known not in {0, number}:
        raise InvalidInput(
            f"This Idempotency-Key was used for the batch {batch}, of {known} files and not {number}. Make a new key.",
            code="idempotency-key-reused",
        )


def _in_parts(all_of_them: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    return (all_of_them[at : at + most] for at in range(0, len(all_of_them), most))


async def _found(request: web.Request, entries: list[NewBatchFile]) -> list[Found]:
    front, owner = frontend(request), principal(request).owner
    found: list[Found] = []
    for some in _in_parts(entries, _AT_ONCE):
        found += await asyncio.gather(*(front.uploads.find(entry.file, owner) for entry in some))
    return found


def _view(request: web.Request, batch: str, tries: list[Job]) -> BatchView:
    jobs = last_tries(tries)
    counts = Counter(job.status for job in jobs)
    progress = sum(100 if job.final else percent(job.fields) for job in jobs) / len(jobs)
    return BatchView(
        id=batch,
        total=len(jobs),
        progress=round(progress, 1),
        counts=dict(counts),
        cost=cost_of(tries, frontend(request).rates),
        final=all(status in FINAL for status in counts),
        jobs=[job.id for job in jobs],
    )
