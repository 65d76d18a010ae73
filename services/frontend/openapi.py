"""The OpenAPI 3.1 document of the whole API, made from the models that check the requests."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.frontend import compat_models as compat
from services.frontend.v1.models import Problem
from services.frontend.v1.routes import ROUTES
from services.frontend.v1.routing import Parameter, Route
from shared.version import VERSION

#: One event of a stream; what `data` holds is the JSON of a job's event.
_EVENT = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("event", "id", "data")} | {"retry": {"type": "integer"}},
}
_ALWAYS = (401, 403, 429, 503)
_REASONS = {
    200: "As asked.",
    201: "Created.",
    204: "Nothing to tell.",
    400: "Something in the request is wrong; the sentence says what.",
    401: "An API key is needed.",
    403: "The API key does not allow this.",
    404: "There is no such thing, or it is another's.",
    408: "The upload was too slow, or stopped.",
    409: "This is taken, or is not in a state for it.",
    413: "More than is allowed.",
    415: "Not an image, or not what its name says.",
    422: "The Idempotency-Key was used for another order.",
    429: "The quota is used up; Retry-After says for how long.",
    503: "Something needed is away; Retry-After says when to try again.",
    507: "The storage is full.",
}

#: Method, path, summary, body, answer and statuses of the compatible API.
_COMPAT: tuple[tuple[str, str, str, type[BaseModel] | None, type[BaseModel], tuple[int, ...]], ...] = (
    ("get", "/api/health-check", "Say that the service answers", None, compat.Message, ()),
    ("post", "/api/upload", "Upload a file", None, compat.UploadAnswer, (400, 408, 413, 415, 507)),
    ("post", "/api/predict", "Submit a job", compat.PredictRequest, compat.HashAnswer, (400, 404, 413)),
    ("post", "/api/status", "See the status of a job", compat.StatusRequest, compat.StatusAnswer, (400, 413)),
    ("post", "/api/redis", "See fields of a job", compat.RedisRequest, compat.ValueAnswer, (400, 413)),
    ("post", "/api/redis/expire", "Have a job forgotten", compat.ExpireRequest, compat.ExpireAnswer, (400, 404, 413)),
    ("get", "/api/jobtypes", "List the job types", None, compat.JobTypesAnswer, ()),
    ("get", "/api/models", "List the models", None, compat.ModelsAnswer, ()),
)


@functools.cache
def document() -> str:
    """Return the document as JSON."""
    schemas = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    for method, path, summary, body, answer, errors in _COMPAT:
        paths.setdefault(path, {})[method] = _compat_operation(path, summary, body, answer, errors)
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "CellKiosk",
                "version": VERSION,
                "summary": "Microscopy images in, cells out.",
                "description": "API v1, and the API of the DeepCell Kiosk, which works unchanged.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "tags": [
                {"name": "files", "description": "Uploads in one go; resumable ones speak tus at /api/v1/uploads."},
                {"name": "jobs", "description": "Submit, see, cancel."},
                {"name": "events", "description": "Server-Sent Events."},
                {"name": "batches", "description": "Many files, one progress."},
                {"name": "offer", "description": "Job types and models."},
                {"name": "compatible", "description": "The API of the DeepCell Kiosk."},
            ],
            "security": [{"key": []}, {}],
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key."}},
            },
        }
    )


def _operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method} {route.path}".lower()).strip("_"),
        "summary": route.summary,
        "tags": [route.tag],
        "responses": {
            **{str(status): _answered(status, answer) for status, answer in route.answers.items()},
            **{str(status): _problem(status) for status in (*route.errors, *_ALWAYS)},
        },
    }
    if route.parameters:
        found["parameters"] = [_parameter(parameter) for parameter in route.parameters]
    content: dict[str, Any] = {}
    if route.body is not None:
        content["application/json"] = {"schema": _ref(route.body)}
    if route.multipart:
        content["multipart/form-data"] = _form(with_job=route.body is not None)
    if content:
        found["requestBody"] = {"required": True, "content": content}
    return found


def _compat_operation(
    path: str, summary: str, body: type[BaseModel] | None, answer: type[BaseModel], errors: tuple[int, ...]
) -> dict[str, Any]:
    told = {"schema": _ref(compat.Message)}
    content = {"application/json": {"schema": _ref(body)}} if body else {"multipart/form-data": _form(with_job=False)}
    failed = {status: _ref(compat.ExpireAnswer) if path.endswith("expire") and status == 404 else told["schema"]
              for status in (*errors, *_ALWAYS)}  # fmt: skip
    return {
        "operationId": "compatible_" + re.sub(r"\W+", "_", path.removeprefix("/api/")),
        "summary": summary,
        "tags": ["compatible"],
        "responses": {
            "200": _answered(200, answer),
            **{
                str(status): {"description": _REASONS[status], "content": {"application/json": {"schema": schema}}}
                for status, schema in failed.items()
            },
        },
        **({"requestBody": {"required": True, "content": content}} if body or path == "/api/upload" else {}),
    }


def _answered(status: int, answer: type[BaseModel] | str) -> dict[str, Any]:
    if not answer:
        return {"description": _REASONS[status]}
    if isinstance(answer, str):
        schema = _EVENT if answer == "text/event-stream" else {"type": "string", "format": "binary"}
        return {"description": _REASONS[status], "content": {answer: {"schema": schema}}}
    return {"description": _REASONS[status], "content": {"application/json": {"schema": _ref(answer)}}}


def _problem(status: int) -> dict[str, Any]:
    return {"description": _REASONS[status], "content": {"application/problem+json": {"schema": _ref(Problem)}}}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": parameter.description,
        "schema": parameter.schema,
    }


def _form(*, with_job: bool) -> dict[str, Any]:
    properties: dict[str, Any] = {"file": {"type": "string", "format": "binary", "description": "The image."}}
    required = ["file"]
    if with_job:
        properties |= {
            "type": {"type": "string", "minLength": 1, "description": "The job type."},
            "options": {"type": "object", "description": "Options, as JSON."},
            "model": {"type": "string"},
            "model_version": {"type": "string"},
        }
        required.append("type")
    return {"schema": {"type": "object", "properties": properties, "required": required}}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _schemas() -> dict[str, Any]:
    asked = {route.body for route in ROUTES if route.body} | {body for *_, body, _answer, _errors in _COMPAT if body}
    told = {answer for route in ROUTES for answer in route.answers.values() if not isinstance(answer, str)}
    told |= {row[4] for row in _COMPAT} | {Problem, compat.Message}
    by_name = functools.partial(sorted, key=lambda model: model.__name__)
    pairs: list[Any] = [(model, "validation") for model in by_name(asked)]
    pairs += [(model, "serialization") for model in by_name(told)]
    _, found = models_json_schema(pairs, ref_template="#/components/schemas/{model}")
    return dict(found["$defs"])
