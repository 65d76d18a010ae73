"""Puts the janitor's keepers together and runs them until it is asked to stop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import structlog

from services.janitor.census import Census
from services.janitor.leases import Leases
from services.janitor.log import Log
from services.janitor.orphans import Orphans
from services.janitor.pods import VanishedPods, cluster_of
from services.janitor.retention import Retention
from services.janitor.rounds import keep
from services.janitor.settings import Settings
from shared.jobs import JobStore, Notifications, Watch, open_store
from shared.jobs.keys import HINT_JANITOR
from shared.jobs.schema import wait_until_fit
from shared.kubernetes import Pods
from shared.lifecycle import Process
from shared.storage import Storage, open_storage

log = structlog.get_logger(__name__)


async def main(process: Process[Settings]) -> None:
    """Run all keepers; each goes on whatever happens to the others' parts."""
    settings = process.settings
    async with opened(settings) as (store, storage), contextlib.AsyncExitStack() as stack:
        process.check("redis", store.ping)
        process.check("storage", storage.check)
        await wait_until_fit(store, settings.name, process.stopping)
        notifications = Notifications(settings.redis.url.get_secret_value(), settings.redis.prefix)
        stack.push_async_callback(notifications.aclose)
        if settings.redis.notifications:
            process.task("notifications", notifications.run())
        leases = Leases(store, settings.name, settings.batch, settings.absent)
        retention = Retention(store, storage, settings.name, settings.batch)
        orphans = Orphans(store, storage, settings.name, settings.orphans)
        for keeper, work, longest in (
            ("leases", leases.round, min(settings.lease, settings.redis.reconcile)),
            ("retention", retention.round, settings.retention_period),
            ("orphans", orphans.round, settings.orphans.period),
            ("census", Census(store).round, settings.redis.reconcile),
            ("log", Log(store, settings.name).round, settings.redis.reconcile),
        ):
            watched = (HINT_JANITOR,) if keeper in {"leases", "retention"} else ()
            watch = await stack.enter_async_context(notifications.watch(*watched))
            process.task(keeper, keep(keeper, work, watch, longest))
        await _watch_pods(process, store, leases, stack)
        await process.stopping.wait()
        await process.cancel_tasks()


async def _watch_pods(
    process: Process[Settings], store: JobStore, leases: Leases, stack: contextlib.AsyncExitStack
) -> None:
    settings = process.settings
    cluster = await cluster_of(settings.pods)
    if cluster is None:
        return
    stack.push_async_callback(cluster.aclose)
    changed = Watch()
    pods = Pods(cluster, changed.set)
    process.task("watch-pods", pods.run())
    keeper = VanishedPods(store, pods, settings.name, leases)
    process.task("pods", keep("pods", keeper.round, changed, settings.lease))


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple[JobStore, Storage]]:
    """Open the job store and the storage for the time of the context."""
    store = open_store(settings.redis.url.get_secret_value(), settings.redis.prefix)
    try:
        place = settings.storage
        storage = open_storage(place.url, place.deployment, gcs_api_root=place.gcs_api_root)
        try:
            yield store, storage
        finally:
            await storage.aclose()
    finally:
        await store.aclose()
