"""The web page and the API's documents: files that never change while the service runs, with their fingerprints."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiohttp import web

from services.frontend import openapi
from shared.errors import NotFound

_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
#: Paths of pages, and the files that show them.
_PAGES = {"/": "index.html", "/docs": "docs.html", "/about": "about.html"}


@dataclass(frozen=True)
class _File:
    body: bytes
    packed: bytes
    kind: str
    etag: str


async def page(request: web.Request) -> web.Response:
    """Serve a page."""
    return _send(request, _read(_PAGES[request.path.rstrip("/") or "/"]))


async def static(request: web.Request) -> web.Response:
    """Serve what a page is made of."""
    return _send(request, _read(request.match_info["name"]))


async def document(request: web.Request) -> web.Response:
    """Serve the OpenAPI document."""
    return _send(request, _document())


def add_pages(app: web.Application) -> None:
    """Add the pages and documents."""
    for path in _PAGES:
        app.router.add_get(path, page)
        if path != "/":
            app.router.add_get(path + "/", page)
    app.router.add_get("/static/{name:.+}", static)
    app.router.add_get("/favicon.ico", _icon)
    for path in ("/api/openapi.json", "/api/swagger.json"):
        app.router.add_get(path, document)
        app.router.add_get(path + "/", document)


async def _icon(request: web.Request) -> web.Response:
    return _send(request, _read("icon.svg"))


def _send(request: web.Request, file: _File) -> web.Response:
    headers = {"ETag": file.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    text = file.kind.startswith("text/") or file.kind.endswith("json")
    charset = "utf-8" if text else None
    if file.etag in request.headers.get("If-None-Match", ""):
        # The type is told again: a cache would take over any other.
        return web.Response(status=304, headers=headers, content_type=file.kind, charset=charset)
    body = file.body
    if "gzip" in request.headers.get("Accept-Encoding", "") and len(file.packed) < len(body):
        headers["Content-Encoding"], body = "gzip", file.packed
    return web.Response(body=body, headers=headers, content_type=file.kind, charset=charset)


@cache
def _names() -> frozenset[str]:
    return frozenset(path.relative_to(_FOLDER).as_posix() for path in _FOLDER.rglob("*") if path.is_file())


def _read(name: str) -> _File:
    if name not in _names():  # nor a roundabout way to one: each is kept once
        raise NotFound("There is nothing at this address.")
    return _kept(name)


@cache
def _kept(name: str) -> _File:
    path = _FOLDER / name
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return _file(path.read_bytes(), kind)


@cache
def _document() -> _File:
    return _file(openapi.document().encode(), "application/json")


def _file(body: bytes, kind: str) -> _File:
    return _File(body, gzip.compress(body, mtime=0), kind, f'"{hashlib.sha256(body).hexdigest()[:16]}"')
