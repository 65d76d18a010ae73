"""Routes that describe themselves: each names its models, from which the OpenAPI document is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from shared.jobs.model import is_id

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a route: where it is, what it means, its JSON Schema."""

    name: str
    description: str
    schema: dict[str, Any] = field(default_factory=lambda: {"type": "string"})
    place: str = "query"
    required: bool = False


@dataclass(frozen=True)
class Route:
    """One route of the API.

    Attributes:
        answers: for each status without error: a model, or a media type of bytes.
        errors: statuses that are answered with a problem document.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    answers: dict[int, type[BaseModel] | str]
    body: type[BaseModel] | None = None
    multipart: bool = False
    parameters: tuple[Parameter, ...] = ()
    errors: tuple[int, ...] = ()
    tag: str = "jobs"


def answer(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return a model as JSON."""
    return web.Response(
        text=model.model_dump_json(by_alias=True), status=status, headers=headers, content_type="application/json"
    )


def add_routes(app: web.Application, routes: tuple[Route, ...]) -> None:
    """Add routes, each with and without a slash at its end."""
    for route in routes:
        for path in (route.path, route.path + "/"):
            app.router.add_route(route.method, path, route.handler)
            if route.method == "GET" and not route.path.endswith("/events"):
                app.router.add_route("HEAD", path, route.handler)


def job_id_of(request: web.Request) -> str:
    """Return the job id in a request's path; what is none names no job, and is answered as one that is not there."""
    job_id = request.match_info["id"]
    return job_id if is_id(job_id) else ""
