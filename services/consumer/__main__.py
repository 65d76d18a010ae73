"""Start a consumer: ``python -m services.consumer``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from typing import Any

import structlog

from services.consumer.bench import Bench, open_bench
from services.consumer.pipeline import Pipeline, discover
from services.consumer.runner import Runner
from services.consumer.settings import Settings
from services.consumer.worker import Capacity, Worker
from shared.errors import Retry
from shared.jobs import Notifications, open_store
from shared.lifecycle import Process, run
from shared.version import VERSION

log = structlog.get_logger(__name__)


async def main(process: Process[Settings]) -> None:
    """Serve all job types that are installed, or those that the settings name, until told to stop."""
    settings = process.settings
    redis, work = settings.redis, settings.work
    pipelines = discover(work.types)
    store = open_store(redis.url.get_secret_value(), redis.prefix)
    notifications = Notifications(redis.url.get_secret_value(), redis.prefix)
    async with contextlib.aclosing(store), contextlib.aclosing(notifications), open_bench(settings, store) as bench:
        process.check("redis", store.ping)
        process.check("model server", ModelCheck(bench, pipelines))
        if redis.notifications:
            process.task("notifications", notifications.run())
        process.task("announce", _announce(bench, pipelines))
        capacity = Capacity(work.slots, work.lease, work.renew, redis.reconcile)
        worker = Worker(settings.name, store, notifications, list(pipelines), Runner(pipelines, bench), capacity)
        worker.facts |= {"version": VERSION, "host": socket.gethostname(), "pid": str(os.getpid())}
        await worker.run(process.stopping, settings.grace)


async def _announce(bench: Bench, pipelines: dict[str, Pipeline[Any]]) -> None:
    """Tell of job types and models now and again: models come and go, and a Redis may have been emptied."""
    while True:
        try:
            await bench.store.check_schema()
            await bench.store.announce(*(type(pipeline).described() for pipeline in pipelines.values()))
            await bench.store.announce_models(await bench.models.models())
        except Retry as error:
            log.warning("announce-failed", error=str(error))
        await asyncio.sleep(bench.settings.redis.reconcile)


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
