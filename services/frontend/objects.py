"""Stored files over HTTP: results and uploads, whole or in ranges (RFC 9110), never half-written.

Their addresses hold 128 random bits, so that knowing one is the right to read it; they end when the job is forgotten.
"""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import quote

from aiohttp import web

from services.frontend import metrics
from services.frontend.context import frontend
from shared.errors import InvalidInput, NotFound
from shared.storage import Stat

_HEX = re.compile(r"[0-9a-f]{32}")
_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")
#: Shown by a browser as what they are; anything else is downloaded.
_SHOWN = {"image/png", "image/jpeg"}
_LINK_LIFE = timedelta(minutes=15)


async def result(request: web.Request) -> web.StreamResponse:
    """Serve a file of a job's results."""
    root, rest = request.match_info["root"], request.match_info["rest"]
    if not _HEX.fullmatch(root):
        raise NotFound("There is no such result.", code="no-such-file")
    return await send(request, f"output/{root}/{rest}")


async def upload(request: web.Request) -> web.StreamResponse:
    """Serve an uploaded file; equal ones are one object under several names."""
    key = f"uploads/{request.match_info['name']}"
    try:
        return await send(request, key)
    except NotFound:
        shared = await frontend(request).store.shared(key)
        if shared is None:
            raise
        return await send(request, shared.object, _name(key))


async def send(request: web.Request, key: str, filename: str = "", *, stream: bool = False) -> web.StreamResponse:
    """Serve a stored file, as much of it as the request wants.

    Args:
        request: that asks.
        key: of the file.
        filename: to save it under.
        stream: never by redirect, which the page's content policy does not follow to other servers.

    Raises:
        NotFound: there is none.
    """
    front = frontend(request)
    try:
        stat = await front.storage.stat(key)
    except InvalidInput as error:
        raise NotFound("There is no such file (any more).", code="no-such-file") from error
    if (
        not stream
        and front.settings.results == "redirect"
        and (link := await front.storage.signed_url(key, _LINK_LIFE, filename or _name(key)))
    ):
        raise web.HTTPFound(link)
    headers = _headers(stat, filename or _name(key))
    if _unchanged(request, stat):
        return web.Response(status=304, headers=headers)
    wanted = _range(request, stat)
    if wanted is None:
        return web.Response(status=416, headers={**headers, "Content-Range": f"bytes */{stat.size}"})
    return await _stream(request, stat, headers, *wanted)


async def _stream(
    request: web.Request, stat: Stat, headers: dict[str, str], start: int, end: int
) -> web.StreamResponse:
    partial = (start, end) != (0, stat.size)
    response = web.StreamResponse(status=206 if partial else 200, headers=headers)
    if partial:
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{stat.size}"
    response.content_length = end - start
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    async with contextlib.aclosing(frontend(request).storage.get(stat.key, start, end)) as chunks:
        # The first chunk comes before the headers: what is gone meanwhile is told as gone.
        first = await anext(chunks, b"")
        await response.prepare(request)
        await response.write(first)
        metrics.result_bytes.inc(len(first))
        async for chunk in chunks:
            await response.write(chunk)
            metrics.result_bytes.inc(len(chunk))
    await response.write_eof()
    return response


def _headers(stat: Stat, filename: str) -> dict[str, str]:
    kind = stat.content_type
    shown = "inline" if kind in _SHOWN else "attachment"
    return {
        "Content-Type": kind,
        "ETag": f'"{stat.etag}"',
        "Last-Modified": format_datetime(_modified(stat), usegmt=True),
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=3600",
        "Content-Disposition": f"{shown}; filename*=UTF-8''{quote(filename, safe='')}",
    }


def _modified(stat: Stat) -> datetime:
    return datetime.fromtimestamp(int(stat.modified), UTC)


def _unchanged(request: web.Request, stat: Stat) -> bool:
    if (tags := request.headers.get("If-None-Match")) is not None:
        known = {tag.strip().removeprefix("W/") for tag in tags.split(",")}
        return "*" in known or f'"{stat.etag}"' in known
    since = _date(request.headers.get("If-Modified-Since", ""))
    return since is not None and _modified(stat) <= since


def _range(request: web.Request, stat: Stat) -> tuple[int, int] | None:
    """Return first byte and the one after the last; None for a range that the file has not."""
    whole = (0, stat.size)
    found = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    if not found or not _same(request.headers.get("If-Range", ""), stat):
        return whole
    first, last = found.groups()
    if not first and not last:
        return whole
    if not first:
        length = min(int(last), stat.size)
        return (stat.size - length, stat.size) if length else None
    start, end = int(first), min(int(last) + 1 if last else stat.size, stat.size)
    if last and int(last) < int(first):
        return whole
    return (start, end) if start < stat.size else None


def _same(condition: str, stat: Stat) -> bool:
    if not condition or condition == f'"{stat.etag}"':
        return True
    date = _date(condition)
    return date is not None and date == _modified(stat)


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _name(key: str) -> str:
    return key.rsplit("/", 1)[-1]
