"""Who asks, and whether they may: the gate before every handler."""

from __future__ import annotations

from aiohttp import web

from services.frontend import metrics
from services.frontend.settings import Settings
from shared.auth import ANONYMOUS, Principal, Scope
from shared.errors import InvalidInput

PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)

#: Open to everybody: the page and what it is made of, sign-in, the API's documents, health, and unguessable links.
_OPEN = ("/static/", "/results/", "/uploads/", "/api/v1/sign-in")
_OPEN_EXACT = {
    "/",
    "/docs",
    "/about",
    "/favicon.ico",
    "/robots.txt",
    "/api/health-check",
    "/api/openapi.json",
    "/api/swagger.json",
}


def principal(request: web.Request) -> Principal:
    """Return who asks."""
    return request[PRINCIPAL]


class Gate:
    """Decides on each request."""

    def __init__(self, settings: Settings) -> None:
        """Know who may come without a key."""
        mode = settings.auth.anonymous
        self.anonymous = ("on" if settings.on_loopback else "off") if mode == "auto" else mode

    async def admit(self, request: web.Request) -> Principal:
        """Return who asks.

        Raises:
            InvalidInput: with the code ``unauthorized`` or ``forbidden``.
        """
        found = await self.identify(request)
        path = request.path.rstrip("/") or "/"
        if is_open(path):
            return found or ANONYMOUS
        if found is None and self._may_be_anonymous(path):
            found = ANONYMOUS
        if found is None:
            metrics.refused.labels("unauthorized").inc()
            raise InvalidInput(
                "This needs an API key: send it as 'Authorization: Bearer <key>', or sign in on the page.",
                code="unauthorized",
            )
        needed = Scope.READ if request.method in {"GET", "HEAD"} or path in _ASKING else Scope.WRITE
        if not found.may(needed):
            metrics.refused.labels("forbidden").inc()
            raise InvalidInput(
                f"This API key does not allow it: it lacks the scope {needed.value!r}.", code="forbidden"
            )
        return found

    async def identify(self, _request: web.Request) -> Principal | None:
        """Return who the request proves to come from; None where it proves nothing."""
        return None

    def _may_be_anonymous(self, path: str) -> bool:
        if self.anonymous == "compat":
            return path.startswith("/api/") and not path.startswith("/api/v1")
        return self.anonymous == "on"


#: Routes of the compatible API that only ask although their method is POST.
_ASKING = {"/api/status", "/api/redis"}


def is_open(path: str) -> bool:
    """Tell whether a path is for everybody."""
    return path in _OPEN_EXACT or path.startswith(_OPEN)
