"""The API of the DeepCell Kiosk, so that programs written for it work unchanged."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web
from multidict import CIMultiDict
from pydantic_core import PydanticSerializationError, to_json

from services.frontend import sniff
from services.frontend.auth import principal
from services.frontend.body import read_model
from services.frontend.catalogue import from_texts
from services.frontend.compat_models import ExpireRequest, PredictRequest, RedisRequest, StatusRequest
from services.frontend.context import base_url, frontend
from services.frontend.errors import Fault, nothing
from services.frontend.submission import Order


async def health_check(_request: web.Request) -> web.Response:
    """Say that the service answers."""
    return web.json_response({"message": "OK"})


async def upload(request: web.Request) -> web.Response:
    """Store the file in the field ``file``."""
    stored = await frontend(request).uploads.receive_form(request, principal(request).owner)
    return web.json_response({"imageURL": f"{base_url(request)}/{stored.key}", "uploadedName": stored.key})


async def predict(request: web.Request) -> web.Response:
    """Submit a job."""
    body = await _body(request, PredictRequest)
    order = await order_of(request, body)
    answer = await frontend(request).desk.submit(order)
    return _json({"hash": answer.id})


async def order_of(request: web.Request, body: PredictRequest) -> Order:
    """Return the order that a client of the compatible API means."""
    front, owner = frontend(request), principal(request).owner
    kind = await front.catalogue.find(body.job_type)
    # Benchmarks name files that they put into the bucket themselves: a missing one fails its job, not the order.
    file = await front.uploads.find(body.uploaded_name or body.image_name, owner, must_exist=False)
    extra = {
        "preprocess": body.preprocess_function,
        "postprocess": body.postprocess_function,
        "cuts": body.cuts,
        "label": body.data_label,
    }
    return Order(
        kind=kind,
        key=file.key,
        name=sniff.base_name(body.image_name),
        options=from_texts(
            kind,
            {
                "dimension_order": body.job_form.dimension_order,
                "channels": body.job_form.selected_channels,
                "scale": body.job_form.scale or body.data_rescale,
                "segmentation_type": body.job_form.segmentation_type,
            },
        ),
        model=body.model_name.strip(),
        version=body.model_version.strip(),
        owner=owner,
        facts={name: text for name, text in extra.items() if text},
    )


async def status(request: web.Request) -> web.Response:
    """Tell the status of a job."""
    body = await _body(request, StatusRequest)
    return _json({"status": (await _fields(request, body.hash, ["status"]))[0]})


async def redis(request: web.Request) -> web.Response:
    """Tell one field of a job, or several in the order asked."""
    body = await _body(request, RedisRequest)
    names = [body.key] if isinstance(body.key, str) else body.key
    values = await _fields(request, body.hash, names)
    return _json({"value": values[0] if isinstance(body.key, str) else values})


async def expire(request: web.Request) -> web.Response:
    """Have a job forgotten some seconds after its end."""
    body = await _body(request, ExpireRequest)
    whose = await frontend(request).store.get_fields(body.hash, ["owner"])
    seen = principal(request).sees(whose[0])
    if seen and await frontend(request).store.expire(body.hash, body.expire_in):
        return web.json_response({"value": 1})
    return web.json_response({"value": 0}, status=404)


async def job_types(request: web.Request) -> web.Response:
    """List the job types, the default first."""
    return web.json_response({"jobTypes": [kind.name for kind in await frontend(request).catalogue.public()]})


async def models(request: web.Request) -> web.Response:
    """List the models."""
    return web.json_response({"models": await frontend(request).catalogue.models()})


async def nowhere(_request: web.Request) -> web.Response:
    """Answer what is no route."""
    return nothing(Fault(404, "not-found", ""))


async def _fields(request: web.Request, job_id: str, names: list[str]) -> list[str | None]:
    *values, owner = await frontend(request).hub.fields((job_id, (*names, "owner")))
    return values if principal(request).sees(owner) else [None] * len(names)


async def _body(request: web.Request, model: type[Any]) -> Any:
    return await read_model(request, model, frontend(request).settings.json_bytes)


def _json(answer: dict[str, Any]) -> web.Response:
    """Return JSON; for the routes that are asked most, quicker than the general way."""
    try:
        body = to_json(answer)
    except PydanticSerializationError:  # a text from Redis that is no Unicode
        body = json.dumps(answer).encode()
    return web.Response(body=body, headers=_IS_JSON)


_IS_JSON = CIMultiDict({"Content-Type": "application/json; charset=utf-8"})
ROUTES: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/api/health-check", health_check),
    ("POST", "/api/upload", upload),
    ("POST", "/api/predict", predict),
    ("POST", "/api/status", status),
    ("POST", "/api/redis", redis),
    ("POST", "/api/redis/expire", expire),
    ("GET", "/api/jobtypes", job_types),
    ("GET", "/api/models", models),
)
