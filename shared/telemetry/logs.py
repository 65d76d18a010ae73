"""Structured logs on standard output: one event name for each thing that happens, JSON or readable."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from shared.settings import TelemetrySettings
from shared.telemetry.traces import trace_id

_SECRET = re.compile(r"(?i)(password|secret|token|authorization|api[-_]?key|cookie|signature|credential)")
#: Within a text: the password of an address, a bearer's token, what an address that needs no key proves itself by.
_SECRET_IN_TEXT = re.compile(
    r"(?i)(\w+://[^:/@\s]*:)[^@/\s]+(?=@)|(\bbearer )[\w.~+/=-]+"
    r"|([?&][\w-]*(?:signature|token|key|secret|password|upload_id)=)[^&\s\"'#]+"
)
bind = structlog.contextvars.bound_contextvars


def configure_logs(settings: TelemetrySettings, service: str, stream: TextIO | None = None) -> None:
    """Send all logs of the process, those of libraries too, to one stream as one kind of line."""
    out = stream or sys.stdout
    readable = settings.log_format == "console" or (settings.log_format == "auto" and out.isatty())
    # Tracebacks are plain text: the pretty ones show the values of variables, and come after secrets were blanked.
    shown = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderer = shown if readable else structlog.processors.JSONRenderer(default=str)
    common: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Named(service),
        _add_trace,
        structlog.processors.format_exc_info,
        redact,
    ]
    level = getattr(logging, settings.log_level.upper())
    structlog.configure(
        processors=[*common, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=common, processors=[_drop_meta, renderer])
    )
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank whatever is named like a secret, however deep, and secrets within texts."""
    for name, value in event.items():
        event[name] = _blanked(name, value)
    return event


def _blanked(name: Any, value: Any) -> Any:
    if isinstance(name, str) and _SECRET.search(name):
        return "***"
    if isinstance(value, str):
        return _SECRET_IN_TEXT.sub(lambda found: f"{found[1] or found[2] or found[3]}***", value)
    if isinstance(value, dict):
        return {key: _blanked(key, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_blanked("", inner) for inner in value]
    return value


class _Named:
    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("service", self._service)
        return event


def _add_trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if current := trace_id():
        event.setdefault("trace_id", current)
    return event


def _drop_meta(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in ("_record", "_from_structlog"):
        with contextlib.suppress(KeyError):
            del event[name]
    return event
