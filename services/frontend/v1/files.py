"""Files: sent here in one go, or straight to the bucket. Resumable uploads are tus's (``services.frontend.tus``)."""

from __future__ import annotations

from datetime import UTC, datetime

from aiohttp import web

from services.frontend.auth import principal
from services.frontend.body import read_model
from services.frontend.context import frontend
from services.frontend.uploads import Upload
from services.frontend.v1.models import DirectRequest, DirectView, File
from services.frontend.v1.routing import answer


async def upload(request: web.Request) -> web.Response:
    """Store a file."""
    stored = await frontend(request).uploads.receive_form(request, principal(request).owner)
    return answer(_file(stored), 201)


async def begin(request: web.Request) -> web.Response:
    """Tell where a file can be put into the bucket."""
    front, owner = frontend(request), principal(request).owner
    wish = await read_model(request, DirectRequest, front.settings.json_bytes)
    direct, address = await front.direct.begin(wish.name, wish.size, owner, front.gate.spend, resumable=wish.resumable)
    expires = datetime.now(UTC) + front.direct.life(resumable=wish.resumable)
    view = DirectView(
        id=direct.id,
        name=direct.name,
        url=address.url,
        method="PUT",
        headers=dict(address.headers),
        expires_at=expires.isoformat(),
        confirm=f"/api/v1/files/direct/{direct.id}/confirm",
    )
    return answer(view, 201)


async def confirm(request: web.Request) -> web.Response:
    """Make what was put into the bucket a file."""
    stored = await frontend(request).direct.confirm(request.match_info["id"], principal(request).owner)
    return answer(_file(stored), 201)


def _file(stored: Upload) -> File:
    return File(
        file=stored.key,
        name=stored.name,
        size=stored.size,
        sha256=stored.sha256 or None,
        media_type=stored.media_type,
    )
