"""From errors to answers: a status, a stable code, and a sentence; never a traceback."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from aiohttp import web

from shared.errors import InvalidInput, KioskError, NotFound, Retry, StorageFull
from shared.telemetry import trace_id

#: Statuses of input errors by their code; any other is 400.
_STATUS = {
    "too-large": 413,
    "too-slow": 408,
    "not-an-image": 415,
    "archive-as-image": 415,
    "image-as-archive": 415,
    "unauthorized": 401,
    "forbidden": 403,
    "conflict": 409,
    "not-revivable": 409,
    "gone": 410,
    "method-not-allowed": 405,
    "length-required": 411,
    "packed-body": 415,
    "idempotency-key-reused": 422,
}
_AGAIN_AFTER = 2.0


class TooMany(Retry):
    """The owner's quota is used up for now.

    Attributes:
        code: which quota.
    """

    def __init__(self, sentence: str, *, code: str, after: float) -> None:
        super().__init__(sentence, after=after)
        self.code = code


@dataclass(frozen=True)
class Fault:
    """An error as it is told: status, stable code, sentence, headers."""

    status: int
    code: str
    sentence: str
    headers: dict[str, str] = field(default_factory=dict)


def fault_of(error: BaseException) -> Fault:
    """Return how an error is told."""
    match error:
        case TooMany():
            return Fault(429, error.code, str(error), _retry_after(error))
        case StorageFull():
            return Fault(507, "storage-full", str(error), _retry_after(error))
        case Retry():
            return Fault(503, "unavailable", str(error), _retry_after(error))
        case NotFound():
            return Fault(404, error.code, str(error))
        case InvalidInput():
            return Fault(_STATUS.get(error.code, 400), error.code, str(error), _challenge(error.code))
        case web.HTTPException():
            return _of_http(error)
        case KioskError():
            return Fault(503, "unavailable", "The service cannot do this right now; try again later.")
    sentence = f"Something went wrong in the service; the operator finds it in the log by the trace {trace_id()}."
    return Fault(500, "internal-error", sentence)


def problem(fault: Fault) -> web.Response:
    """Tell a fault as a problem document (RFC 9457)."""
    body = {
        "type": f"/docs#{fault.code}",
        "title": HTTPStatus(fault.status).phrase,
        "status": fault.status,
        "code": fault.code,
        "detail": fault.sentence,
    }
    return _json(body, fault, "application/problem+json")


def message(fault: Fault) -> web.Response:
    """Tell a fault as clients of the compatible API expect it."""
    return _json({"message": fault.sentence, "code": fault.code}, fault, "application/json")


def nothing(fault: Fault) -> web.Response:
    """Answer what is no route of the compatible API: an empty object."""
    return _json({}, fault, "application/json")


def _json(body: dict[str, Any], fault: Fault, content_type: str) -> web.Response:
    return web.Response(
        text=json.dumps(body), status=fault.status, headers=fault.headers, content_type=content_type, charset="utf-8"
    )


def _of_http(error: web.HTTPException) -> Fault:
    headers = {name: value for name, value in error.headers.items() if name in {"Allow", "Location"}}
    match error.status:
        case 404:
            return Fault(404, "not-found", "There is nothing at this address.", headers)
        case 405:
            return Fault(405, "method-not-allowed", f"Allowed here: {headers.get('Allow', '')}.", headers)
        case 413:
            return Fault(413, "too-large", "The body is larger than this address takes.", headers)
    return Fault(error.status, "http-error", error.reason or "The request cannot be answered.", headers)


def _retry_after(error: Retry) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(error.after or _AGAIN_AFTER)))}


def _challenge(code: str) -> dict[str, str]:
    return {"WWW-Authenticate": 'Bearer realm="CellKiosk"'} if code == "unauthorized" else {}
