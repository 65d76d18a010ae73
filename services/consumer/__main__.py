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
from shared.jobs.schema import wait_until_fit
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
        announcer = Announcer(bench, pipelines)
        process.check("redis", store.ping)
        process.check("model server", ModelCheck(bench, pipelines))
        process.check("job types", announcer.check)
        if redis.notifications:
            process.task("notifications", notifications.run())
        await wait_until_fit(store, settings.name, process.stopping)
        process.task("announce", announcer.run())
        capacity = Capacity(work.slots, work.lease, work.renew, redis.reconcile)
        worker = Worker(settings.name, store, notifications, list(pipelines), Runner(pipelines, bench), capacity)
        worker.facts |= {"version": VERSION, "host": socket.gethostname(), "pid": str(os.getpid())}
        await worker.run(process.stopping, settings.grace)


class Announcer:
    """Tells of job types and models now and again: models come and go, and a Redis may have been emptied."""

    def __init__(self, bench: Bench, pipelines: dict[str, Pipeline[Any]]) -> None:
        """Prepare; nothing is told yet."""
        self._bench = bench
        self._types = [type(pipeline).described() for pipeline in pipelines.values()]
        self._told = False

    async def run(self) -> None:
        """Tell until cancelled."""
        store = self._bench.store
        while True:
            try:
                await store.announce(*self._types)
                self._told = True
                await store.announce_models(await self._bench.models.models())
            except Retry as error:
                log.warning("announce-failed", error=str(error))
            await asyncio.sleep(self._bench.settings.redis.reconcile)

    async def check(self) -> None:
        """Raise Retry before the job types were told for the first time: nobody could order any."""
        if not self._told:
            raise Retry("The job types have not been told yet.")


class ModelCheck:
    """Readiness by a real inference of a model that the job types use and the server has."""

    def __init__(self, bench: Bench, pipelines: dict[str, Pipeline[Any]]) -> None:
        """Prepare; nothing is asked yet."""
        self._bench = bench
        self._wanted = [pipeline.model for pipeline in pipelines.values() if pipeline.model]

    async def __call__(self) -> None:
        """Raise Retry where there is no such model or it does not answer."""
        if not self._wanted:
            return
        served = await self._bench.models.models()
        model = next((model for model in self._wanted if model in served), None)
        if model is None:
            raise Retry(
                f"The model server has none of the models that are used: {', '.join(sorted(set(self._wanted)))}."
            )
        await self._bench.models.check(model, timeout=2.0)


if __name__ == "__main__":
    sys.exit(run("consumer", Settings, main))
