"""Traces: one from the upload through the queue, the consumer and the model server to the result.

The context travels in the job hash, as the fact ``traceparent`` (W3C Trace Context).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.settings import TelemetrySettings

_PROPAGATOR = TraceContextTextMapPropagator()


def configure_traces(settings: TelemetrySettings, service: str, version: str, instance: str) -> TracerProvider:
    """Set up tracing for the process; spans are exported only where a collector is configured."""
    resource = Resource.create(
        {"service.name": f"cellkiosk-{service}", "service.version": version, "service.instance.id": instance}
    )
    provider = TracerProvider(resource=resource, sampler=ParentBasedTraceIdRatio(settings.trace_ratio))
    if settings.otlp_endpoint:
        provider.add_span_processor(_exporter(settings.otlp_endpoint))
    trace.set_tracer_provider(provider)
    return provider


@contextlib.contextmanager
def span(
    name: str, parent: Context | None = None, kind: SpanKind = SpanKind.INTERNAL, **attributes: str | int | float
) -> Iterator[Span]:
    """Open a span for the time of the context; an exception is recorded on it and goes on."""
    tracer = trace.get_tracer("cellkiosk")
    dotted = {key.replace("__", "."): value for key, value in attributes.items()}
    with tracer.start_as_current_span(name, context=parent, kind=kind, attributes=dotted) as current:
        yield current


@contextlib.contextmanager
def attach(parent: Context) -> Iterator[None]:
    """Belong to another trace for the time of the context, as its logs do, without a span of one's own."""
    token = context.attach(parent)
    try:
        yield
    finally:
        context.detach(token)


def current_traceparent() -> str:
    """Return the W3C traceparent of the current span; empty where there is none."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", "")


def context_of(carrier: Mapping[str, str]) -> Context:
    """Return the context named by a ``traceparent`` entry, as in HTTP headers or a job hash."""
    return _PROPAGATOR.extract(dict(carrier))


def trace_id() -> str:
    """Return the id of the current trace as 32 hex digits; empty where there is none."""
    current = trace.get_current_span().get_span_context()
    return format(current.trace_id, "032x") if current.is_valid else ""


def _exporter(endpoint: str) -> Any:
    # Imported here: requests and protobuf cost 15 MB that a process without a collector need not pay.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces"))
