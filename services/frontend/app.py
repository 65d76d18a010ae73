"""The application: parts put together, routes, and what runs beside the requests."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from services.frontend import compat, middleware, objects, pages
from services.frontend.auth import Gate, principal
from services.frontend.catalogue import Catalogue
from services.frontend.context import FRONTEND, Frontend
from services.frontend.direct import DirectUploads
from services.frontend.guard import Guard
from services.frontend.hub import Hub
from services.frontend.settings import Settings
from services.frontend.sharing import Sharing
from services.frontend.submission import Desk
from services.frontend.tracing import traced
from services.frontend.tus import Tus
from services.frontend.uploads import Uploads
from services.frontend.v1.routes import ROUTES
from services.frontend.v1.routing import add_routes
from services.frontend.webhooks import Webhooks
from shared.costs import rates
from shared.jobs import JobStore, Notifications
from shared.storage import Storage
from shared.storage.unfinished import open_partials


def make_frontend(
    settings: Settings, store: JobStore, storage: Storage, notifications: Notifications | None
) -> Frontend:
    """Put the parts together; nothing runs yet.

    Raises:
        Misconfigured: a machine named for the costs has no price.
    """
    catalogue = Catalogue(store)
    hub = Hub(store, notifications, settings.redis.reconcile)
    priced = rates(settings.cost)
    return Frontend(
        settings=settings,
        store=store,
        storage=storage,
        catalogue=catalogue,
        uploads=Uploads(settings.uploads, storage, store),
        direct=DirectUploads(settings.uploads, storage, Sharing(store, storage).settle),
        desk=Desk(store, catalogue, settings.jobs, settings.quotas),
        hub=hub,
        gate=Gate(settings, store),
        guard=Guard(settings.connections),
        webhooks=Webhooks(settings.webhooks, store, hub, priced=priced),
        rates=priced,
    )


def make_app(front: Frontend) -> web.Application:
    """Return the application with all its routes."""
    app = web.Application(
        middlewares=[traced, middleware.outermost, middleware.gate],
        client_max_size=0,  # bodies are read by our own readers, each with its limit
        handler_args={
            "access_log": None,
            "read_bufsize": 2**18,
            "keepalive_timeout": 75.0,
            "lingering_time": front.settings.connections.linger_seconds,
        },
    )
    app[FRONTEND] = front
    app.on_shutdown.append(_end_streams)
    app.on_response_prepare.append(middleware.headers)
    for method, path, handler in compat.ROUTES:
        _add(app, method, path, handler)
    add_routes(app, ROUTES)
    sharing = Sharing(front.store, front.storage)
    uploads = front.settings.uploads
    tus = Tus(open_partials(front.storage), uploads, _owner, sharing.settle, front.uploads.turn, front.gate.spend)
    app.add_routes(tus.routes())
    pages.add_pages(app)
    app.router.add_get("/results/{root}/{rest:.+}", objects.result)
    app.router.add_get("/uploads/{name:.+}", objects.upload)
    app.router.add_route("*", "/api", compat.nowhere)
    app.router.add_route("*", "/api/{any:(?!v1/).*}", compat.nowhere)
    return app


async def _end_streams(app: web.Application) -> None:
    app[FRONTEND].hub.close()


def _owner(request: web.Request) -> str:
    return principal(request).owner


def _add(app: web.Application, method: str, path: str, handler: Any) -> None:
    """Add a route with and without a slash at its end; never a redirect, which would lose a POST's body."""
    app.router.add_route(method, path, handler)
    app.router.add_route(method, path + "/", handler)
