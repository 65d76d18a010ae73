"""``python -m services.frontend``."""

from __future__ import annotations

import asyncio
import gc
import sys

import structlog
from aiohttp import web

from services.frontend.app import make_app, make_frontend
from services.frontend.context import Frontend
from services.frontend.guard import raise_open_files
from services.frontend.settings import Settings
from shared.errors import Misconfigured
from shared.jobs import JobStore, Notifications, open_store
from shared.jobs.connection import AWAY
from shared.jobs.notifications import switch_on
from shared.jobs.schema import wait_until_fit
from shared.lifecycle import Process, run
from shared.storage import open_storage

#: s between looks at whether Redis sends events.
_LOOK_AGAIN = 15.0

log = structlog.get_logger(__name__)


async def main(process: Process[Settings]) -> None:
    """Serve until asked to stop."""
    raise_open_files()  # before the guard counts how many connections that is
    # Looked through seldom: with ten thousand streams open, each look at all objects halts them for a quarter second.
    gc.set_threshold(10_000, 10, 20)
    settings = process.settings
    store = open_store(settings.redis.url.get_secret_value(), settings.redis.prefix)
    storage = open_storage(
        settings.storage.url, settings.storage.deployment, gcs_api_root=settings.storage.gcs_api_root
    )
    notifications = _notifications(settings)
    front = make_frontend(settings, store, storage, notifications)
    process.check("redis", store.ping)
    process.task("schema", _keep_fit(process, store))
    process.check("storage", storage.check)
    if notifications is not None:
        process.task("notifications", notifications.run())
        process.task("switch-on-notifications", _keep_switched_on(store))
    process.task("events", front.hub.run())
    process.task("keep-alives", front.hub.beat())
    if settings.webhooks.secret.get_secret_value():
        process.task("webhooks", front.webhooks.run())
    runner = web.AppRunner(make_app(front), access_log=None, shutdown_timeout=settings.grace)
    await runner.setup()
    listening = None
    try:
        listening = await _listen(runner, front)
        await process.stopping.wait()
    finally:
        if listening is not None:
            listening.close()
        front.guard.close()
        await runner.cleanup()
        await process.cancel_tasks()
        if notifications is not None:
            await notifications.aclose()
        await storage.aclose()
        await store.aclose()


async def _listen(runner: web.AppRunner, front: Frontend) -> asyncio.Server:
    settings = front.settings
    try:
        listening = await front.guard.listen(runner, settings.host, settings.port)
    except OSError as error:
        raise Misconfigured(
            f"{settings.host}:{settings.port} (KIOSK_HOST, KIOSK_PORT) cannot be listened at: {error.strerror}."
        ) from error
    host, port = listening.sockets[0].getsockname()[:2]
    log.info("listening", url=f"http://{host}:{port}")
    return listening


async def _keep_fit(process: Process[Settings], store: JobStore) -> None:
    """Stop where Redis holds keys of another version, now or later; requests are served meanwhile."""
    while True:
        await wait_until_fit(store, process.settings.name, process.stopping)
        await asyncio.sleep(_LOOK_AGAIN)


async def _keep_switched_on(store: JobStore) -> None:
    """Switch the events on, and again after Redis was started anew."""
    told = None
    while True:
        try:
            sentence = await switch_on(store.redis)
        except AWAY as error:
            log.info("notifications-not-switched-on", error=str(error))
        else:
            if sentence and sentence != told:
                log.warning("notifications-not-switched-on", error=sentence)
            told = sentence
        await asyncio.sleep(_LOOK_AGAIN)


def _notifications(settings: Settings) -> Notifications | None:
    if not settings.redis.notifications:
        return None
    return Notifications(settings.redis.url.get_secret_value(), settings.redis.prefix)


if __name__ == "__main__":
    sys.exit(run("frontend", Settings, main))
