"""What happens around every handler: errors told, rights checked, headers set, requests counted."""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from aiohttp.http_exceptions import PayloadEncodingError
from multidict import CIMultiDict

from services.frontend import metrics
from services.frontend.auth import PRINCIPAL
from services.frontend.context import frontend
from services.frontend.errors import Fault, fault_of, message, nothing, problem
from shared.errors import InvalidInput, KioskError
from shared.telemetry import span
from shared.telemetry.counting import LoopCounter, LoopHistogram

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SECURITY = {
    "Server": "CellKiosk",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'{}; font-src 'self'; manifest-src 'self'; worker-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_ALLOWED_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, If-None-Match, Range, Tus-Resumable, Upload-Length, "
    "Upload-Offset, Upload-Metadata, Upload-Concat, Upload-Checksum, Upload-Defer-Length"
)
_EXPOSED_HEADERS = (
    "Location, Retry-After, ETag, Content-Range, Tus-Resumable, Tus-Version, Tus-Extension, Tus-Max-Size, "
    "Tus-Checksum-Algorithm, Upload-Offset, Upload-Length, Upload-Expires, Upload-Metadata, Upload-Concat, Upload-Key"
)

# Ready made: an answer then shares its names with all others instead of having its own, a kilobyte for each.
_FILE = CIMultiDict({**_SECURITY, "Content-Security-Policy": "default-src 'none'; sandbox"})
_API = CIMultiDict({**_FILE, "Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": _EXPOSED_HEADERS})


@functools.cache
def _page(label_viewer: str) -> CIMultiDict[str]:
    """Return the headers of pages, which may speak to this server alone, and to the viewer that takes results."""
    parts = urlsplit(label_viewer)
    more = f" {parts.scheme}://{parts.netloc}" if parts.netloc and "{" not in label_viewer else ""
    return CIMultiDict({**_SECURITY, "Content-Security-Policy": _POLICY.format(more)})


@functools.lru_cache(maxsize=2000)
def _counter(route: str, method: str, status: int) -> LoopCounter:
    return metrics.requests.labels(route, method, str(status))


@functools.lru_cache(maxsize=200)
def _timer(route: str) -> LoopHistogram:
    return metrics.request_seconds.labels(route)


@web.middleware
async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count the request, and tell every error in the form of its API."""
    frontend(request).guard.heard(request)
    started = time.perf_counter()
    status = 499
    try:
        response = await _answered(request, handler)
        status = response.status
        return response
    finally:
        route = _route(request)
        method = request.method if request.method in _METHODS else "other"
        _counter(route, method, status).inc()
        if not route.endswith("/events"):
            _timer(route).observe(time.perf_counter() - started)


@web.middleware
async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let in whoever may."""
    if request.method != "OPTIONS":
        request[PRINCIPAL] = await frontend(request).gate.admit(request)
    response = await handler(request)
    if request.method in _CHANGING and response.status < 400 and request.path.rstrip("/") not in _QUIET:
        _audit(request, response.status)
    return response


async def headers(request: web.Request, response: web.StreamResponse) -> None:
    """Set the headers that every answer carries; runs when the answer begins."""
    settings = frontend(request).settings
    if not request.path.startswith(("/api", "/results", "/uploads")):
        response.headers.update(_page(settings.label_viewer) if _is_page(response) else _FILE)
        return
    response.headers.update(_API)
    if "*" in settings.cors_origins:
        return
    response.headers["Vary"] = "Origin"
    origin = request.headers.get("Origin", "")
    if origin in settings.cors_origins:
        response.headers["Access-Control-Allow-Origin"] = origin
    else:
        del response.headers["Access-Control-Allow-Origin"]


def preflight() -> web.Response:
    """Answer a browser's question whether another page may call."""
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
            "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
            "Access-Control-Max-Age": "86400",
        },
    )


_CHANGING = {"POST", "PUT", "PATCH", "DELETE"}
#: Only ask, although their method is POST; the others tell of themselves, with the owner and what was made.
_QUIET = {
    *("/api/status", "/api/redis", "/api/predict", "/api/upload", "/api/v1/sign-in"),
    *("/api/v1/jobs", "/api/v1/files", "/api/v1/batches", "/api/v1/uploads"),
}
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def _audit(request: web.Request, status: int) -> None:
    who = request[PRINCIPAL]
    log.info("audit", by=who.owner, proof=who.by, what=f"{request.method} {request.path}", status=status)


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return preflight()
        _refuse_packed(request)
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _told(request, fault_of(error))
    except KioskError as error:
        fault = fault_of(error)
        if fault.status >= 500:
            log.warning("request-failed", path=request.path, status=fault.status, error=str(error))
        return _told(request, fault)
    except (ConnectionError, web.RequestPayloadError, PayloadEncodingError):
        # The client went away in the middle; there is nobody to tell.
        log.info("client-gone", path=request.path)
        return _told(request, Fault(400, "cut-off", "The request was cut off."))
    except Exception as error:  # a user sees a sentence, the log the traceback; both name the trace
        with span("request-crashed"):
            log.exception("request-crashed", path=request.path)
            return _told(request, fault_of(error))


def _refuse_packed(request: web.Request) -> None:
    """Refuse a body that would be unpacked on the way: what it swells to was neither announced nor counted."""
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise InvalidInput(f"The body is packed ({encoding[:40]}); send it as it is.", code="packed-body")


def _told(request: web.Request, fault: Fault) -> web.Response:
    path = request.path
    if path.startswith("/api/") and not path.startswith("/api/v1"):
        response = nothing(fault) if fault.status in {404, 405} and fault.code in _NOWHERE else message(fault)
        if fault.status == 405:
            response.set_status(404)
    else:
        response = problem(fault)
    # What was not read of the body cannot be skipped for ever: the connection ends.
    if not request.content.is_eof():
        response.force_close()
    return response


_NOWHERE = {"not-found", "method-not-allowed"}


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "none"


def _is_page(response: web.StreamResponse) -> bool:
    return response.content_type in {"text/html", "text/javascript", "text/css"}
