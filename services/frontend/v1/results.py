"""Results of many jobs in one zip, which is made while it is sent."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime

from aiohttp import web

from services.frontend import metrics
from services.frontend.auth import principal
from services.frontend.bundle import Item, bundle, folders
from services.frontend.context import frontend
from services.frontend.v1.batches import last_tries, own_batch
from shared.errors import InvalidInput, NotFound
from shared.jobs import Job
from shared.jobs.model import is_id
from shared.jobs.states import DONE

_MOST = 10_000
#: As many as fit in the first line of a request.
_MOST_IDS = 150


async def of_batch(request: web.Request) -> web.StreamResponse:
    """Send the results of a batch."""
    batch = request.match_info["id"]
    return await _send(request, await own_batch(request, batch), f"results-{batch[:8]}")


async def of_mine(request: web.Request) -> web.StreamResponse:
    """Send the results of the jobs named in the query, or of all of one's own."""
    store, who = frontend(request).store, principal(request)
    ids = list(dict.fromkeys(one for text in request.query.getall("ids", []) for one in text.split(",") if one))
    if len(ids) > _MOST_IDS or not all(map(is_id, ids)):
        raise InvalidInput(f"Name at most {_MOST_IDS} jobs, as in ?ids=<id>,<id>.", code="invalid-field")
    if not ids:
        ids = [job_id for job_id, _ in await store.owned(who.owner, float("inf"), _MOST)]
    jobs = [job for job in await store.get_many(ids) if job is not None and who.sees(job.owner)]
    return await _send(request, jobs, f"results-{datetime.now(UTC):%Y-%m-%d}")


async def _send(request: web.Request, jobs: Sequence[Job], name: str) -> web.StreamResponse:
    jobs = sorted(last_tries(jobs), key=lambda job: (_name(job).casefold(), job.id))
    done = [job for job in jobs if job.status == DONE and "output_file_name" in job.fields]
    if not done:
        raise NotFound("None of these jobs has a result (yet).", code="no-result")
    notes = [f"{_name(job)}: {job.fields.get('reason') or 'It has not ended yet.'}" for job in jobs if job not in done]
    names = folders(map(_name, done))
    items = [Item(job.fields["output_file_name"], folder) for job, folder in zip(done, names, strict=True)]
    headers = {
        "Content-Type": "application/zip",
        "Content-Disposition": f'attachment; filename="{name}.zip"',
        "Cache-Control": "no-store",
    }
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    async with contextlib.aclosing(bundle(frontend(request).storage, items, notes)) as chunks:
        async for chunk in chunks:
            await response.write(chunk)
            metrics.result_bytes.inc(len(chunk))
    await response.write_eof()
    return response


def _name(job: Job) -> str:
    return job.fields.get("original_name", job.id)
