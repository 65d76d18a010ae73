"""Start a consumer: ``python -m services.consumer``."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

import structlog

from services.consumer.bench import Bench, open_bench
from services.consumer.pipeline import Pipeline, discover
from services.consumer.runner import Runner
from services.consumer.settings import Settings
from services.consumer.worker import Capacity, Worker
from shared.errors import Retry
from shared.jobs import JobStore, Notifications, open_store
from shared.lifecycle import Process, run
from shared.version import VERSION

log = structlog.get_logger(__name__)


async def main(process: Process[Settings]) -> None:
    """Serve all job types that are installed, or those that the settings name, until told to stop."""
    settings = process.settings
    pipelines = discover(settings.work.types)
    store = open_store(settings.redis.url.get_secret_value(), settings.redis.prefix)
    async with contextlib.aclosing(store), open_bench(settings, store) as bench:
        notifications = Notifications(settings.redis.url.get_secret_value(), settings.redis.prefix)
        process.check("redis", store.ping)
        process.check("model server", ModelCheck(bench, pipelines))
        if settings.redis.notifications:
            process.task("notifications", notifications.run())
        process.task("announce", _announce(store, pipelines, settings))
        work, redis = settings.work, settings.redis
        capacity = Capacity(work.slots, work.lease, work.renew, redis.reconcile)
        worker = Worker(settings.name, store, notifications, list(pipelines), Runner(pipelines, bench), capacity)
        worker.facts |= {"version": VERSION}
        await worker.run(process.stopping, settings.grace)


async def _announce(store: JobStore, pipelines: dict[str, Pipeline[Any]], settings: Settings) -> None:
    """Tell of the job types now and again, so that a Redis that was emptied learns of them."""
    while True:
        try:
            await store.announce(*(type(pipeline).described() for pipeline in pipelines.values()))
        except Retry as error:
            log.warning("announce-failed", error=str(error))
        await asyncio.sleep(settings.redis.reconcile)


class ModelCheck:
    """Readiness by a real inference of one of the models that the job types use, at most every few seconds."""

    def __init__(self, bench: Bench, pipelines: dict[str, Pipeline[Any]]) -> None:
        """Prepare; nothing is asked yet."""
        self._bench = bench
        self._model = next((pipeline.model for pipeline in pipelines.values() if pipeline.model), "")

    async def __call__(self) -> None:
        """Raise Retry where the model does not answer."""
        if self._model:
            await self._bench.models.check(self._model, timeout=2.0)


if __name__ == "__main__":
    sys.exit(run("consumer", Settings, main))
