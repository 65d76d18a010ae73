"""The beginning of every trace: a span for each request that changes something, carried on in the job's hash."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler
from opentelemetry.trace import SpanKind, StatusCode

from shared.telemetry import context_of, span, trace_id

#: Asked thousands of times for each job by old clients, and they begin nothing.
_POLLS = ("/api/status", "/api/redis", "/api/redis/expire")


@web.middleware
async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Open a span, a child of the caller's where it sends a ``traceparent``, and tell the trace's id in the answer."""
    if request.method not in {"POST", "PUT", "PATCH", "DELETE"} or request.path.rstrip("/") in _POLLS:
        return await handler(request)
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "unknown"
    carrier = {"traceparent": request.headers.get("traceparent", "")}
    with span(f"{request.method} {route}", context_of(carrier), SpanKind.SERVER, http__route=route) as current:
        response = await handler(request)
        current.set_attribute("http.response.status_code", response.status)
        if response.status >= 500:
            current.set_status(StatusCode.ERROR)
        if not response.prepared:
            response.headers["X-Trace-Id"] = trace_id(current)
        return response
