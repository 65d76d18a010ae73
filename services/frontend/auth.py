"""Who asks, and whether they may: the gate before every handler."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from services.frontend import metrics
from services.frontend.errors import TooMany
from services.frontend.settings import Settings
from shared.auth import ANONYMOUS, COOKIE, ApiKey, Cookies, KeyStore, Principal, Scope, Spending
from shared.auth.settings import OidcSettings
from shared.errors import InvalidInput
from shared.jobs import JobStore

if TYPE_CHECKING:
    from shared.auth.oidc import Oidc

log = structlog.get_logger(__name__)

PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)

#: Open to everybody: the page and what it is made of, sign-in, the API's documents, health, and unguessable links.
_OPEN = ("/static/", "/results/")
#: Not the names that somebody gave to files which were placed in the storage by hand.
_UNGUESSABLE = re.compile(r"/uploads/[0-9a-f]{32}(\.[^/]*)?")
_OPEN_EXACT = {
    *("/", "/docs", "/about", "/favicon.ico"),
    *("/api/health-check", "/api/openapi.json", "/api/swagger.json", "/api/v1/sign-in"),
}
#: Routes of the compatible API that only ask although their method is POST.
_ASKING = {"/api/status", "/api/redis"}
_SAFE = {"GET", "HEAD", "OPTIONS"}
#: s for which a key that was looked up is believed.
_REMEMBERED = 3.0
#: s over which the rate of requests is averaged.
_BURST = 10.0


def principal(request: web.Request) -> Principal:
    """Return who asks."""
    return request[PRINCIPAL]


class Gate:
    """Decides on each request."""

    def __init__(self, settings: Settings, store: JobStore) -> None:
        """Know who may come without a key."""
        mode = settings.auth.anonymous
        self.anonymous = ("on" if settings.on_loopback else "off") if mode == "auto" else mode
        self._settings = settings
        self._keys = KeyStore(store.redis, store.prefix)
        self._spending = Spending(store.redis, store.prefix)
        self._oidc = _oidc(settings.auth.oidc)
        self._cookies: Cookies | None = None
        #: By what it was known: the text of a key or, from a cookie, its id, which is no secret and opens nothing.
        self._known: dict[tuple[str, str], tuple[float, ApiKey]] = {}
        self._buckets: dict[str, tuple[float, float]] = {}

    async def admit(self, request: web.Request) -> Principal:
        """Return who asks.

        Raises:
            InvalidInput: with the code ``unauthorized`` or ``forbidden``.
            TooMany: the owner's quota is used up.
        """
        path = request.path.rstrip("/") or "/"
        if is_open(path):
            return ANONYMOUS
        found = await self._identify(request)
        if found is None and self._may_be_anonymous(path):
            found = ANONYMOUS
        if found is None:
            raise _refused(
                "unauthorized", "This needs an API key: send it as 'Authorization: Bearer <key>', or sign in."
            )
        needed = Scope.READ if request.method in _SAFE or path in _ASKING else Scope.WRITE
        if not found.may(needed):
            raise _refused("forbidden", f"This API key does not allow it: it lacks the scope {needed.value!r}.")
        if found.by == "cookie" and request.method not in _SAFE:
            _refuse_other_sites(request)
        self._check_rate(found.owner)
        if self._settings.quotas.upload_bytes and (size := _announced_bytes(request, path)):
            await self.spend(found.owner, size)
        return found

    async def sign_in(self, text: str) -> tuple[ApiKey, str, float]:
        """Return the key of a text, and the value and life (s) of the cookie for it.

        Raises:
            InvalidInput: the key is not valid.
        """
        key = await self._keys.verify(text)
        if key is None:
            raise _refused("unauthorized", "This API key is not valid: it is mistyped, expired or revoked.")
        cookies = await self._signing()
        return key, cookies.make(key.id), cookies.seconds

    async def _identify(self, request: web.Request) -> Principal | None:
        """Return who the request proves to come from; None where it proves nothing."""
        kind, _, text = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return await self._bearer(text.strip())
        if COOKIE in request.headers.get("Cookie", "") and (value := request.cookies.get(COOKIE, "")):
            key_id = (await self._signing()).read(value)
            key = await self._remembered(key_id) if key_id else None
            return Principal(key.owner, key.principal.scopes, "cookie") if key else None
        return None

    async def _bearer(self, text: str) -> Principal:
        if self._oidc is not None and not text.startswith("ck_"):
            return await self._oidc.verify(text)
        known = self._known.get(("text", text))
        if known is not None and time.monotonic() - known[0] < _REMEMBERED:
            return known[1].principal
        key = await self._keys.verify(text)
        if key is None:
            raise _refused("unauthorized", "This API key is not valid: it is mistyped, expired or revoked.")
        self._remember("text", text, key)
        return key.principal

    async def _remembered(self, key_id: str) -> ApiKey | None:
        known = self._known.get(("id", key_id))
        if known is not None and time.monotonic() - known[0] < _REMEMBERED:
            return known[1]
        key = await self._keys.get(key_id)
        if key is not None:
            self._remember("id", key_id, key)
        return key

    def _remember(self, what: str, text: str, key: ApiKey) -> None:
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[what, text] = (time.monotonic(), key)

    async def _signing(self) -> Cookies:
        if self._cookies is None:
            secret = self._settings.auth.secret.get_secret_value() or await self._keys.cookie_secret()
            self._cookies = Cookies(secret, self._settings.auth.cookie_seconds)
        return self._cookies

    def _may_be_anonymous(self, path: str) -> bool:
        if self.anonymous == "compat":
            return path.startswith("/api/") and not path.startswith("/api/v1")
        return self.anonymous == "on"

    def _check_rate(self, owner: str) -> None:
        """Let an owner's requests through at a rate: a bucket that fills steadily and holds ten seconds' worth."""
        rate = self._settings.quotas.requests
        if not rate:
            return
        most, now = max(1.0, rate * _BURST), time.monotonic()
        left, at = self._buckets.get(owner, (most, now))
        left = min(most, left + (now - at) * rate)
        if left < 1:
            metrics.refused.labels("requests").inc()
            raise TooMany(
                f"You send more than {rate:g} requests per second. Wait a little.",
                code="too-many-requests",
                after=(1 - left) / rate,
            )
        if len(self._buckets) > 10_000:
            self._buckets.clear()
        self._buckets[owner] = (left - 1, now)

    async def spend(self, owner: str, size: int) -> None:
        """Count bytes that an owner uploads.

        Raises:
            TooMany: they are more than the owner may upload in this hour.
        """
        most = self._settings.quotas.upload_bytes
        if not most:
            return
        after = await self._spending.add(owner, size, most)
        if after is not None:
            metrics.refused.labels("upload-bytes").inc()
            raise TooMany(
                f"You may upload {most:,} bytes per hour; this would be more.", code="too-many-bytes", after=after
            )


def _oidc(settings: OidcSettings) -> Oidc | None:
    if not settings.issuer:
        return None
    # Imported here: cryptography costs a fifth of a second that a deployment without OIDC need not pay.
    from shared.auth.oidc import Oidc

    return Oidc(settings)


def is_open(path: str) -> bool:
    """Tell whether a path is for everybody."""
    return path in _OPEN_EXACT or path.startswith(_OPEN) or _UNGUESSABLE.fullmatch(path) is not None


def _announced_bytes(request: web.Request, path: str) -> int:
    """Return how many bytes of files a request says that it brings."""
    if request.method not in {"POST", "PUT"}:
        return 0
    if path == "/api/v1/uploads":
        length = request.headers.get("Upload-Length", "0")
        return int(length) if length.isdecimal() and len(length) < 19 else 0
    if request.content_type != "multipart/form-data":
        return 0
    if request.content_length is None:
        raise InvalidInput("An upload must say its Content-Length here.", code="length-required")
    return request.content_length


def _refuse_other_sites(request: web.Request) -> None:
    """Refuse what another page makes a signed-in browser do; the cookie's SameSite does so too."""
    origin = request.headers.get("Origin", "")
    if origin and urlsplit(origin).netloc != request.host:
        raise _refused("forbidden", "Another page may not do this in your name.")


def _refused(code: str, sentence: str) -> InvalidInput:
    metrics.refused.labels(code).inc()
    return InvalidInput(sentence, code=code)
