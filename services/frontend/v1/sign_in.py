"""Sign-in of browsers: an API key becomes a cookie, since event streams in a browser can send no header."""

from __future__ import annotations

import structlog
from aiohttp import web

from services.frontend.body import read_model
from services.frontend.context import frontend
from services.frontend.v1.models import SignedIn, SignInRequest
from services.frontend.v1.routing import answer
from shared.auth import COOKIE

log = structlog.get_logger(__name__)

_BODY = 10_000


async def sign_in(request: web.Request) -> web.Response:
    """Give a cookie for an API key."""
    wish = await read_model(request, SignInRequest, _BODY)
    key, value, seconds = await frontend(request).gate.sign_in(wish.key)
    response = answer(SignedIn(owner=key.owner))
    response.set_cookie(
        COOKIE, value, max_age=round(seconds), httponly=True, samesite="Strict", secure=request.secure, path="/"
    )
    log.info("audit", by=key.owner, what="sign-in", key=key.id)
    return response


async def sign_out(_request: web.Request) -> web.Response:
    """Take the cookie back."""
    response = web.Response(status=204)
    response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict")
    return response
