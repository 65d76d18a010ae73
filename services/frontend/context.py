"""What the handlers share: the parts of one running frontend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from services.frontend.settings import Settings
from shared.costs import Rates
from shared.jobs import JobStore
from shared.storage import Storage

if TYPE_CHECKING:
    from services.frontend.auth import Gate
    from services.frontend.catalogue import Catalogue
    from services.frontend.direct import DirectUploads
    from services.frontend.guard import Guard
    from services.frontend.hub import Hub
    from services.frontend.submission import Desk
    from services.frontend.uploads import Uploads
    from services.frontend.webhooks import Webhooks


@dataclass
class Frontend:
    """One running frontend."""

    settings: Settings
    store: JobStore
    storage: Storage
    catalogue: Catalogue
    uploads: Uploads
    direct: DirectUploads
    desk: Desk
    hub: Hub
    gate: Gate
    guard: Guard
    webhooks: Webhooks
    rates: Rates | None = None


FRONTEND: web.AppKey[Frontend] = web.AppKey("frontend", Frontend)


def frontend(request: web.Request) -> Frontend:
    """Return the frontend that serves a request."""
    return request.app[FRONTEND]


def base_url(request: web.Request) -> str:
    """Return where users reach this service, without a slash at its end."""
    configured = frontend(request).settings.public_url
    return (configured or f"{request.scheme}://{request.host}").rstrip("/")
