"""Event streams (Server-Sent Events, WHATWG HTML): one job, a list of jobs, or a batch on one connection."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from aiohttp import web
from multidict import CIMultiDict

from services.frontend import metrics
from services.frontend.auth import principal
from services.frontend.context import frontend
from services.frontend.hub import Snapshot, is_final
from services.frontend.v1.batches import own_batch
from services.frontend.v1.jobs import own_job
from services.frontend.v1.routing import job_id_of
from services.frontend.v1.views import job_event
from shared.costs import Rates
from shared.errors import InvalidInput
from shared.jobs.model import is_id

#: ms after which a browser connects again.
_RETRY = 1000
#: As many as fit in the first line of a request.
_MOST_IDS = 150
_HEADERS = CIMultiDict({"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"})


async def of_job(request: web.Request) -> web.StreamResponse:
    """Stream the changes of a job until it has ended."""
    job = await own_job(request, job_id_of(request))
    return await _stream(request, [job.id])


async def of_batch(request: web.Request) -> web.StreamResponse:
    """Stream the changes of all jobs of a batch until they have ended."""
    return await _stream(request, [job.id for job in await own_batch(request, request.match_info["id"])])


async def of_list(request: web.Request) -> web.StreamResponse:
    """Stream the changes of the jobs named in the query, separated by commas; others' and unknown ones are left out."""
    named = [job_id for text in request.query.getall("ids", []) for job_id in text.split(",") if job_id]
    ids = list(dict.fromkeys(filter(is_id, named)))
    if not ids or len(ids) > _MOST_IDS:
        raise InvalidInput(f"Name 1 to {_MOST_IDS} jobs, as in ?ids=<id>,<id>.", code="invalid-field")
    owners = await frontend(request).store.fields_of_many([(job_id, ("owner",)) for job_id in ids])
    mine = [job_id for job_id, (owner,) in zip(ids, owners, strict=True) if owner and principal(request).sees(owner)]
    return await _stream(request, mine) if mine else web.Response(status=204)


async def _stream(request: web.Request, ids: Sequence[str]) -> web.StreamResponse:
    seen = _seen(request)
    response = web.StreamResponse(headers=_HEADERS)
    open_ids = set(ids)
    hub, rates = frontend(request).hub, frontend(request).rates
    async with hub.subscribe(ids) as subscription:
        await response.prepare(request)
        await response.write(b"retry: %d\n\n" % _RETRY)
        while open_ids and not hub.closing:
            changes = await subscription.changes()
            text = "".join(
                _event(job_id, snapshot, rates) for job_id, snapshot in changes.items() if _version(snapshot) >= seen
            )
            open_ids.difference_update(job_id for job_id, snapshot in changes.items() if is_final(snapshot))
            await response.write(text.encode() if text or changes else b": still here\n\n")
        if not open_ids:
            await response.write(b"event: end\ndata: {}\n\n")
    return response


def _event(job_id: str, snapshot: Snapshot | None, rates: Rates | None) -> str:
    metrics.events.inc()
    if snapshot is None:
        return f'event: gone\ndata: {{"id":"{job_id}"}}\n\n'
    data = job_event(job_id, snapshot, rates).model_dump_json()
    return f"id: {_version(snapshot)}\nevent: job\ndata: {data}\n\n"


def _version(snapshot: Snapshot | None) -> int:
    """Return when a job changed last, ms: the id of its event."""
    if snapshot is None:
        return 0
    try:
        return round(datetime.fromisoformat(snapshot["updated_at"]).timestamp() * 1000)
    except (KeyError, ValueError):
        return 0


def _seen(request: web.Request) -> int:
    text = request.headers.get("Last-Event-ID", "") or request.query.get("last_event_id", "")
    return int(text) if text.isdecimal() and len(text) < 16 else 0
