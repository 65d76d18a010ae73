"""Logs, traces and the metrics' plumbing, the same in every service.

Each service declares its own metrics in its ``metrics.py``; nothing here knows what they are.
"""

from shared.telemetry.logs import bind, configure_logs
from shared.telemetry.traces import attach, configure_traces, context_of, current_traceparent, span, trace_id

__all__ = [
    "attach",
    "bind",
    "configure_logs",
    "configure_traces",
    "context_of",
    "current_traceparent",
    "span",
    "trace_id",
]
