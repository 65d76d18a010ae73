"""A server of resumable uploads alone, in this process or one of its own: ``python serve.py STORAGE-URL [GCS-API]``."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from services.frontend.settings import UploadSettings
from services.frontend.tus import Tus
from shared.storage import Storage, Stored, open_storage
from shared.storage.partial import Partials
from shared.storage.unfinished import open_partials

Settle = Callable[[Stored, str, str], Awaitable[None]]


def make_app(
    storage: Storage,
    clock: Callable[[], float] | None = None,
    partials: Partials | None = None,
    settle: Settle | None = None,
    **limits: float,
) -> web.Application:
    """Return the application; whose a request is stands in X-Owner."""
    more = {"clock": clock} if clock else {}
    tus = Tus(
        partials or open_partials(storage),
        UploadSettings(**limits),  # type: ignore[arg-type]
        lambda request: request.headers.get("X-Owner", "anonymous"),
        settle or _settled,
        **more,  # type: ignore[arg-type]
    )
    app = web.Application(client_max_size=0)
    app.add_routes(tus.routes())
    return app


async def _settled(_stored: Stored, _name: str, _owner: str) -> None:
    """Leave each file alone: whether an equal one is there is asked of the job store, which is not here."""


@contextlib.asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve it on a free port; the context is its address."""
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def main(url: str, gcs_api_root: str = "") -> None:
    """Serve until killed; print the address."""
    async with serving(make_app(open_storage(url, gcs_api_root=gcs_api_root))) as address:
        print(address, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
