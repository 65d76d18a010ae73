"""Traces: one from the upload through the queue, the consumer and the model server to the result.

The context travels in the job hash, as the fact ``traceparent`` (W3C Trace Context). Every request and job belongs to
a trace, whose id is in its logs and answers; only those that are kept cost spans. Whether a trace is kept is decided
where it begins, and everybody after that follows.
"""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Iterator, Mapping
from typing import Any

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.settings import TelemetrySettings

_PROPAGATOR = TraceContextTextMapPropagator()
_NOTHING = Context()
_NOT_KEPT = TraceFlags(TraceFlags.DEFAULT)


class Keeping:
    """Decides which of the traces that begin here are kept: a share of them, and so many a second at most.

    A span costs a tenth of a millisecond; what a flood of small jobs pays for being watched has to have an end.
    """

    def __init__(self, ratio: float, rate: float) -> None:
        """Keep a share (0..1), but at most ``rate`` traces/s, of which a second's worth may come at once."""
        self._ratio = ratio
        self._rate = rate
        self._most = max(1.0, rate) if rate else 0.0
        self._left, self._at = self._most, time.monotonic()
        self._none_before = 0.0

    def __call__(self) -> bool:
        """Decide on one trace."""
        now = time.monotonic()
        if now < self._none_before or random.random() >= self._ratio:
            return False
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            # Under a flood nearly every trace ends here: until then a look at the clock is enough.
            self._none_before = now + (1 - self._left) / self._rate if self._rate else math.inf
            return False
        self._left -= 1
        return True


class Traces:
    """What this process does with traces; nothing leaves it before `configure_traces`."""

    def __init__(self) -> None:
        """Keep nothing."""
        self._tracer: Tracer | None = None
        self._keeping = Keeping(0, 0)
        self._provider: Any = None

    def tracer_below(self, above: SpanContext) -> Tracer | None:
        """Return what makes a span below another, or the first one of a trace; None where the trace is not kept."""
        if self._tracer is None:
            return None
        kept = above.trace_flags.sampled if above.is_valid else self._keeping()
        return self._tracer if kept else None

    def export(self, settings: TelemetrySettings, resource: Mapping[str, str]) -> None:
        """Send the spans of kept traces to the collector."""
        # Imported here: they cost 20 MB and a tenth of a second that a process without a collector need not pay.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import DEFAULT_ON

        self._provider = TracerProvider(resource=Resource.create(resource), sampler=DEFAULT_ON)
        endpoint = settings.otlp_endpoint.rstrip("/") + "/v1/traces"
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("cellkiosk")
        self._keeping = Keeping(settings.trace_ratio, settings.trace_rate)

    def shutdown(self) -> None:
        """Send what has not been sent yet."""
        if self._provider is not None:
            self._provider.shutdown()


_traces = Traces()


def configure_traces(settings: TelemetrySettings, service: str, version: str, instance: str) -> Traces:
    """Set up tracing for the process; spans are made and exported only where a collector is configured."""
    global _traces  # one for the process, as OpenTelemetry's own
    _traces = Traces()
    if settings.otlp_endpoint:
        names = {"service.name": f"cellkiosk-{service}", "service.version": version, "service.instance.id": instance}
        _traces.export(settings, names)
    return _traces


def span(
    name: str, parent: Context | None = None, kind: SpanKind = SpanKind.INTERNAL, **attributes: str | int | float
) -> contextlib.AbstractContextManager[Span]:
    """Open a span for the time of the context; an exception is recorded on it and goes on.

    Without a trace above it begins one. In a trace that is not kept it has an id and costs next to nothing.
    """
    above = trace.get_current_span(parent).get_span_context()
    if (tracer := _traces.tracer_below(above)) is not None:
        dotted = {key.replace("__", "."): value for key, value in attributes.items()}
        return tracer.start_as_current_span(name, context=parent, kind=kind, attributes=dotted)
    return _Unseen(NonRecordingSpan(above if above.is_valid else _new_trace()), parent)


class _Unseen:
    """The current span for a time, of a trace that is not kept. No generator: nearly every request opens one."""

    __slots__ = ("_parent", "_span", "_token")

    def __init__(self, unseen: Span, parent: Context | None) -> None:
        self._span = unseen
        self._parent = parent

    def __enter__(self) -> Span:
        self._token = context.attach(trace.set_span_in_context(self._span, self._parent))
        return self._span

    def __exit__(self, *_: object) -> None:
        context.detach(self._token)


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
    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        return ""
    return f"00-{current.trace_id:032x}-{current.span_id:016x}-{current.trace_flags:02x}"


def context_of(carrier: Mapping[str, str]) -> Context:
    """Return the context named by a ``traceparent`` entry, as in HTTP headers or a job hash."""
    return _PROPAGATOR.extract(dict(carrier), _NOTHING) if carrier.get("traceparent") else _NOTHING


def trace_id(of: Span | None = None) -> str:
    """Return the id of a span's trace, or of the current one, as 32 hex digits; empty where there is none."""
    current = (of or trace.get_current_span()).get_span_context()
    return format(current.trace_id, "032x") if current.is_valid else ""


def _new_trace() -> SpanContext:
    return SpanContext(
        random.getrandbits(128) or 1, random.getrandbits(64) or 1, is_remote=False, trace_flags=_NOT_KEPT
    )
