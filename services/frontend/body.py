"""JSON bodies, read within a limit and checked by a model."""

from __future__ import annotations

import contextlib
import json
from typing import Any, NoReturn, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from services.frontend.context import frontend
from services.frontend.pace import Pace
from shared.errors import InvalidInput

M = TypeVar("M", bound=BaseModel)


async def read_model(request: web.Request, model: type[M], limit: int) -> M:
    """Return the model of the JSON object in a body of at most ``limit`` bytes.

    Raises:
        InvalidInput: it is too long, not JSON or not an object, or a field is wrong.
    """
    raw = await read_body(request, limit)
    # In one step what is well; whatever is wrong is read again, slowly, for a sentence that says what.
    if b"NaN" not in raw and b"Infinity" not in raw:  # which pydantic takes for JSON
        with contextlib.suppress(ValidationError):
            return model.model_validate_json(raw)
    return validated(model, _parsed(raw))


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        found = _DECODER.decode(raw.decode())
    except RecursionError:
        raise InvalidInput("The body is JSON nested too deeply.", code="bad-json") from None
    except ValueError as error:
        said = "empty" if not raw.strip() else f"not JSON: {error}"
        raise InvalidInput(f"The body is {said}. Send a JSON object.", code="bad-json") from error
    if not isinstance(found, dict):
        kind = {list: "a list", str: "a text", type(None): "null", bool: "true or false"}.get(type(found), "a number")
        raise InvalidInput(f"The body is {kind}; it must be a JSON object.", code="bad-json")
    return found


async def read_body(request: web.Request, limit: int) -> bytes:
    """Return a body of at most ``limit`` bytes.

    Raises:
        InvalidInput: it is longer, or comes too slowly.
    """
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    if request.content.is_eof():  # it came with the head, as most do
        return request.content.read_nowait()
    pace, found = Pace(frontend(request).settings.uploads), bytearray()
    while chunk := await pace.read(request.content):
        found += chunk
        if len(found) > limit:
            raise _too_large(limit)
    return bytes(found)


def validated(model: type[M], raw: Any) -> M:
    """Return the model of a JSON value.

    Raises:
        InvalidInput: naming the first field that is wrong or missing, and what is allowed.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(step) for step in fault["loc"])
        if fault["type"] == "missing":
            raise InvalidInput(f"The field {name!r} is missing.", code="missing-field") from error
        text = fault["msg"].removeprefix("Value error, ")
        raise InvalidInput(f"The field {name!r} is wrong: {text}.", code="invalid-field") from error


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def _too_large(limit: int) -> InvalidInput:
    return InvalidInput(f"The body is longer than the {limit:,} bytes allowed for JSON.", code="too-large")
