"""``python -m services.autoscaler``: keep the targets at their size until told to stop."""

from __future__ import annotations

import asyncio
import sys

import structlog

from services.autoscaler.loop import Loop
from services.autoscaler.scalers import Scaler, open_scaler
from services.autoscaler.settings import Settings
from shared.errors import Retry
from shared.jobs import JobStore, Notifications, open_store
from shared.jobs.connection import AWAY
from shared.jobs.notifications import switch_on
from shared.jobs.schema import fit
from shared.lifecycle import Process, run

log = structlog.get_logger(__name__)


async def main(process: Process[Settings]) -> None:
    """Start the parts, work, and stop them in order: first deciding, then the scaler."""
    settings = process.settings
    url = settings.redis.url.get_secret_value()
    store = open_store(url, settings.redis.prefix)
    notifications = Notifications(url, settings.redis.prefix)
    scaler = await open_scaler(settings, store)
    process.check("redis", store.ping)
    process.check("scaler", scaler.check)
    try:
        deciding = process.task("decide", _work(settings, store, notifications, scaler))
        if settings.redis.notifications:
            process.task("notifications", notifications.run())
        await process.stopping.wait()
        deciding.cancel()
        await asyncio.gather(deciding, return_exceptions=True)
        await scaler.aclose(settings.grace)
    finally:
        await process.cancel_tasks()
        await notifications.aclose()
        await store.aclose()


async def _work(settings: Settings, store: JobStore, notifications: Notifications, scaler: Scaler) -> None:
    await _prepare(settings, store)
    loop = Loop(store, notifications, scaler, settings.targets, pace=settings.pace, reconcile=settings.redis.reconcile)
    await loop.run()


async def _prepare(settings: Settings, store: JobStore) -> None:
    """Wait until Redis answers, and see that it is fit for us."""
    while True:
        try:
            await fit(store, settings.name)
            remedy = await switch_on(store.redis) if settings.redis.notifications else None
        except (Retry, *AWAY) as error:
            log.warning("redis-away", error=str(error))
            await asyncio.sleep(1.0)
            continue
        if remedy:
            log.warning("notifications-off", remedy=remedy)
        return


if __name__ == "__main__":
    sys.exit(run("autoscaler", Settings, main))
