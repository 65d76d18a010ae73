"""Batches: one job for each of many files, with one progress."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from dataclasses import replace

import structlog
from aiohttp import web

from services.frontend import sniff
from services.frontend.auth import principal
from services.frontend.body import read_model
from services.frontend.context import frontend
from services.frontend.submission import Order
from services.frontend.v1.jobs import work_facts
from services.frontend.v1.models import BatchView, Canceled, NewBatchRequest
from services.frontend.v1.routing import answer
from services.frontend.v1.views import cost_of
from shared.errors import InvalidInput, NotFound
from shared.jobs import Job
from shared.jobs.states import FINAL

log = structlog.get_logger(__name__)

#: Bytes of JSON that one file may take.
_ENTRY = 2_000


async def submit(request: web.Request) -> web.Response:
    """Submit one job for each file; all or none."""
    front, owner = frontend(request), principal(request).owner
    limit = front.settings.json_bytes + front.settings.jobs.batch_files * _ENTRY
    wish = await read_model(request, NewBatchRequest, limit)
    if len(wish.files) > front.settings.jobs.batch_files:
        raise InvalidInput(
            f"The batch has {len(wish.files)} files; at most {front.settings.jobs.batch_files} are allowed.",
            code="too-large",
        )
    base = Order(
        kind=await front.catalogue.find(wish.type),
        key="",
        name="",
        options=wish.options,
        model=wish.model,
        version=wish.model_version,
        owner=owner,
        priority=wish.priority,
        batch=secrets.token_hex(16),
        facts=await work_facts(request, wish),
    )
    files = [await front.uploads.find(entry.file, owner) for entry in wish.files]
    names = [entry.name or file.name for entry, file in zip(wish.files, files, strict=True)]
    orders = [replace(base, key=file.key, name=sniff.base_name(name)) for file, name in zip(files, names, strict=True)]
    for submitted in await front.desk.submit_batch(orders):
        if "webhook" in base.facts:
            await front.webhooks.follow(submitted.id)
    log.info("batch-submitted", batch=base.batch, owner=owner, jobs=len(orders))
    jobs = await own_batch(request, base.batch)
    return answer(_view(request, base.batch, jobs), 201, {"Location": f"/api/v1/batches/{base.batch}"})


async def get(request: web.Request) -> web.Response:
    """Tell of a batch."""
    batch = request.match_info["id"]
    return answer(_view(request, batch, await own_batch(request, batch)))


async def cancel(request: web.Request) -> web.Response:
    """Cancel all jobs of a batch."""
    jobs = await own_batch(request, request.match_info["id"])
    by = f"owner {principal(request).owner}"
    numbers = await asyncio.gather(*(frontend(request).store.cancel(job.id, by) for job in jobs if not job.final))
    return answer(Canceled(canceled=sum(numbers)))


async def own_batch(request: web.Request, batch: str) -> list[Job]:
    """Return the jobs of a batch that are the asker's, oldest first.

    Raises:
        NotFound: there are none.
    """
    rows = await frontend(request).store.batch(batch, count=100_000)
    found = await frontend(request).store.get_many([job_id for job_id, _ in reversed(rows)])
    mine = [job for job in found if job is not None and principal(request).sees(job.owner)]
    if not mine:
        raise NotFound("There is no such batch. It may have expired.", code="no-such-batch")
    return mine


def _view(request: web.Request, batch: str, jobs: list[Job]) -> BatchView:
    counts = Counter(job.status for job in jobs)
    progress = sum(100 if job.final else int(job.fields.get("progress", "0")) for job in jobs) / len(jobs)
    return BatchView(
        id=batch,
        total=len(jobs),
        progress=round(progress, 1),
        counts=dict(counts),
        cost=cost_of(jobs, frontend(request).rates),
        final=all(status in FINAL for status in counts),
        jobs=[job.id for job in jobs],
    )
