"""Jobs: submit, see, list, cancel, keep, try again."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
from typing import Any

import structlog
from aiohttp import web

from services.frontend import objects, sniff
from services.frontend.auth import principal
from services.frontend.body import read_model, validated
from services.frontend.catalogue import ARCHIVE
from services.frontend.context import frontend
from services.frontend.multipart import Multipart
from services.frontend.submission import Order
from services.frontend.uploads import Upload
from services.frontend.v1.models import Canceled, ExpiryRequest, JobList, JobView, NewJobRequest, Work
from services.frontend.v1.routing import answer, job_id_of
from services.frontend.v1.views import job_view
from shared.errors import InvalidInput, NotFound
from shared.jobs import Job, Submitted
from shared.jobs.model import is_id, type_of
from shared.jobs.states import ALL, NEW

log = structlog.get_logger(__name__)

#: Fields of a form that are JSON, and may come as files.
_JSON = {"job", "options", "priority"}
_PAGE = 50
_MOST = 200
#: Jobs looked at for one page of a filtered list.
_SCANNED = 5_000


async def submit(request: web.Request) -> web.Response:
    """Submit a job: JSON on an uploaded file, or the file and the job in one multipart body."""
    order = await _order(request)
    return await _told(request, await _submitted(request, order))


async def put(request: web.Request) -> web.Response:
    """Submit a job under an id of the client's own; the same again changes nothing, and another order is refused."""
    job_id = job_id_of(request)
    if not job_id or "." in job_id:
        raise InvalidInput(
            f"{request.match_info['id'][:80]!r} is no id for a job; its form is <job type>:<32 hex digits>.",
            code="bad-id",
        )
    order = await _order(request, job_id)
    wanted = ARCHIVE if order.archive else order.kind.name
    if type_of(job_id) != wanted:
        raise InvalidInput(f"The id begins with {type_of(job_id)!r}, but the job is of type {wanted!r}.", code="bad-id")
    return await _told(request, await _submitted(request, order))


async def get(request: web.Request) -> web.Response:
    """Tell of a job."""
    job = await own_job(request, job_id_of(request))
    return answer(await _view(request, job))


async def cancel(request: web.Request) -> web.Response:
    """Cancel a job and its parts; one that has ended stays as it is."""
    job = await own_job(request, job_id_of(request))
    number = await frontend(request).store.cancel(job.id, by=f"owner {principal(request).owner}")
    log.info("job-canceled", job=job.id, owner=principal(request).owner, canceled=number)
    return answer(Canceled(canceled=number))


async def expire(request: web.Request) -> web.Response:
    """Say when an ended job, its files and its result links go."""
    job = await own_job(request, job_id_of(request))
    wish = await read_model(request, ExpiryRequest, frontend(request).settings.json_bytes)
    if not await frontend(request).store.expire(job.id, wish.seconds):
        raise InvalidInput("A part of another job goes with that job; name the whole.", code="part-of-a-job")
    log.info("job-expiry-set", job=job.id, owner=principal(request).owner, seconds=wish.seconds)
    return answer(await _view(request, await own_job(request, job.id)))


async def retry(request: web.Request) -> web.Response:
    """Submit a failed or canceled job again, as a new job."""
    job = await own_job(request, job_id_of(request))
    fresh = await frontend(request).desk.again(job)
    log.info("job-revived", job=fresh, revived_from=job.id, owner=principal(request).owner)
    if "webhook" in job.fields:
        await frontend(request).webhooks.follow(fresh)
    return await _told(request, Submitted(fresh, created=True))


async def list_mine(request: web.Request) -> web.Response:
    """List one's own jobs, newest first."""
    query = request.query
    limit = _limit(query.get("limit", str(_PAGE)))
    status, kind = query.get("status", ""), query.get("type", "")
    if "status" in query and status not in ALL:
        raise InvalidInput(f"There is no status {status[:40]!r}; allowed are {', '.join(ALL)}.", code="invalid-field")
    before, after_id = _position(query.get("cursor", ""))
    found: list[Job] = []
    cursor: str | None = None
    scanned, count = 0, _MOST
    while len(found) < limit and scanned < _SCANNED:
        rows = await frontend(request).store.owned(principal(request).owner, before, count)
        # The cursor names a job and its millisecond, so that jobs of the same one are neither lost nor told twice.
        fresh = [(job_id, ms) for job_id, ms in rows if not after_id or (ms, job_id) < (before - 1, after_id)]
        jobs = await frontend(request).store.get_many([job_id for job_id, _ in fresh])
        found += [
            job
            for job in jobs
            if job is not None and (not status or job.status == status) and (not kind or job.type == kind)
        ]
        scanned += len(fresh)
        cursor = _cursor(rows[-1]) if len(rows) == count else None
        # A batch may have more jobs in one millisecond than a look takes: then the next look is a larger one.
        count = _MOST if fresh else count * 4
        if cursor is None:
            break
        before, after_id = _position(cursor)
    if len(found) > limit:
        found = found[:limit]
        cursor = _cursor((found[-1].id, int(found[-1].fields["created_ms"])))
    return answer(JobList(jobs=[job_view(job, frontend(request).rates) for job in found], cursor=cursor))


async def result(request: web.Request) -> web.StreamResponse:
    """Send a job's result."""
    return await _send(request, "output_file_name")


async def preview(request: web.Request) -> web.StreamResponse:
    """Send a picture of the image."""
    return await _send(request, "preview_file_name", stream=True)


async def view(request: web.Request) -> web.StreamResponse:
    """Send the file that the page's viewer reads in ranges."""
    return await _send(request, "view_file_name", stream=True)


async def own_job(request: web.Request, job_id: str) -> Job:
    """Return a job of the one who asks.

    Raises:
        NotFound: there is none, or it is another's.
    """
    job = await frontend(request).hub.job(job_id) if job_id else None
    if job is None or not principal(request).sees(job.owner):
        raise NotFound("There is no such job. It may have expired.", code="no-such-job")
    return job


async def work_facts(request: web.Request, work: Work) -> dict[str, str]:
    """Return the facts that an order brings beside its options."""
    if not work.webhook:
        return {}
    await frontend(request).webhooks.check(work.webhook)
    return {"webhook": work.webhook}


async def _order(request: web.Request, job_id: str = "") -> Order:
    front, owner = frontend(request), principal(request).owner
    if request.content_type == "multipart/form-data":
        wish = await _from_multipart(request)
    else:
        wish = await read_model(request, NewJobRequest, front.settings.json_bytes)
    kind = await front.catalogue.find(wish.type)
    file = await front.uploads.find(wish.file, owner)
    return Order(
        kind=kind,
        key=file.key,
        name=sniff.base_name(wish.name or file.name),
        options=wish.options,
        model=wish.model,
        version=wish.model_version,
        owner=owner,
        priority=wish.priority,
        job_id=job_id,
        idempotency_key="" if job_id else idempotency_key(request),
        batch=wish.batch,
        facts=await work_facts(request, wish),
    )


async def _submitted(request: web.Request, order: Order) -> Submitted:
    submitted = await frontend(request).desk.submit(order)
    if submitted.created and "webhook" in order.facts:
        await frontend(request).webhooks.follow(submitted.id)
    return submitted


async def _from_multipart(request: web.Request) -> NewJobRequest:
    """Read the file and the job's fields, in any order; ``job`` holds them as JSON, or each has a part of its own."""
    body = frontend(request).uploads.multipart(request)
    stored, fields = await _parts(request, body)
    if stored is None:
        raise InvalidInput("The body has no file in the field 'file'.", code="no-file")
    return validated(NewJobRequest, {"name": stored.name, **fields, "file": stored.key})


async def _parts(request: web.Request, body: Multipart) -> tuple[Upload | None, dict[str, Any]]:
    stored: Upload | None = None
    fields: dict[str, Any] = {}
    left = frontend(request).settings.json_bytes  # for all fields together
    async for part in body.parts():
        if part.name == "file" and part.filename is not None and stored is None:
            owner = principal(request).owner
            stored = await frontend(request).uploads.receive(part.chunks, part.filename, owner)
        elif part.name in _JSON or (part.name and part.filename is None):
            text = await part.text(left)
            left -= len(text)
            fields |= _field(part.name, text)
    return stored, fields


def _field(name: str, text: str) -> dict[str, Any]:
    """Return what one field of a form says; ``job`` says it of several."""
    if name not in _JSON:
        return {name: text}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"The field {name!r} is not JSON.", code="bad-json") from error
    return found if name == "job" and isinstance(found, dict) else {name: found}


async def _told(request: web.Request, submitted: Submitted) -> web.Response:
    job = await own_job(request, submitted.id)
    view = await _view(request, job)
    return answer(view, 201 if submitted.created else 200, {"Location": view.links.self})


async def _view(request: web.Request, job: Job) -> JobView:
    position = None
    if job.status == NEW:
        (rank,) = await frontend(request).store.ranks([(job.id, job.owner)])
        position = None if rank is None else rank + 1
    return job_view(job, frontend(request).rates, position)


async def _send(request: web.Request, field: str, *, stream: bool = False) -> web.StreamResponse:
    job = await own_job(request, job_id_of(request))
    key = job.fields.get(field, "")
    if not key:
        said = "has not ended yet" if not job.final else "left no such file"
        raise NotFound(f"The job {said}.", code="no-result")
    return await objects.send(request, key, stream=stream)


def idempotency_key(request: web.Request) -> str:
    """Return the Idempotency-Key of a request; empty where it has none.

    Raises:
        InvalidInput: it is too long, or cannot be printed.
    """
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > 200 or not key.isprintable():
        raise InvalidInput("The Idempotency-Key must be at most 200 printable characters.", code="invalid-field")
    return key


def _limit(text: str) -> int:
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= _MOST:
        raise InvalidInput(f"The limit is {text[:20]!r}; allowed are 1 to {_MOST}.", code="invalid-field")
    return int(text)


def _cursor(row: tuple[str, int]) -> str:
    return base64.urlsafe_b64encode(f"{row[1]} {row[0]}".encode()).decode().rstrip("=")


def _position(cursor: str) -> tuple[float, str]:
    """Return the time (ms) before which jobs are wanted, and the last job told."""
    if not cursor:
        return float("inf"), ""
    with contextlib.suppress(ValueError, binascii.Error):
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        ms, _, job_id = text.partition(" ")
        if ms.isdecimal() and len(ms) < 16 and is_id(job_id):
            return int(ms) + 1, job_id
    raise InvalidInput("The cursor is not one that a list of jobs gave.", code="bad-cursor")
