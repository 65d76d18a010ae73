"""A worker and a janitor at work in the test's own process, and a submitter that does not give up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from services.consumer.worker import Capacity, Done, Worker
from services.janitor.leases import Leases
from services.janitor.rounds import keep
from shared.errors import Retry
from shared.jobs import Job, NewJob, Notifications, Watch, open_store
from shared.jobs.connection import AWAY, RedisError
from shared.jobs.model import new_id
from shared.lifecycle import ended

TYPE, PREFIX = "segmentation", "{a}:"


class Suite:
    """A worker and a janitor at work on one Redis, for the time of a test."""

    def __init__(self, url: str) -> None:
        self.store = open_store(url, PREFIX)
        self.notifications = Notifications(url, PREFIX)
        self.executed = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def handle(self, _job: Job) -> Done:
        self.executed += 1
        await self.gate.wait()
        return Done({"answer": "42"})

    async def submit(self, count: int = 1) -> list[str]:
        """Submit as a client does that is told to come again: with the same ids."""
        jobs = [NewJob(new_id(TYPE)) for _ in range(count)]
        async with asyncio.timeout(40):
            while True:
                with contextlib.suppress(Retry):
                    return [answer.id for answer in await self.store.submit(*jobs)]

    async def is_woken_by_events(self) -> None:
        """Wait until a change of a job is told by an event, and not by the end of a period: reconnecting takes time."""
        async with asyncio.timeout(20), self.notifications.watch("job:none:told") as watch:
            while True:
                with contextlib.suppress(Retry, *AWAY, RedisError):
                    await self.store.redis.hset(PREFIX + "job:none:told", "status", "told")
                    if await watch.wait(0.5):
                        break
            await self.store.redis.delete(PREFIX + "job:none:told")

    async def all_done(self, ids: list[str]) -> None:
        async with asyncio.timeout(40), self.notifications.watch(*(f"job:{job_id}" for job_id in ids)) as watch:
            while True:
                with contextlib.suppress(Retry):
                    jobs = await self.store.get_many(ids)
                    if all(job is not None and job.status == "done" for job in jobs):
                        return
                await watch.wait(1)


@contextlib.asynccontextmanager
async def suite(url: str) -> AsyncIterator[Suite]:
    it = Suite(url)
    stopping = asyncio.Event()
    capacity = Capacity(slots=8, lease=5, renew=0.5, reconcile=0.5)
    tasks = [
        asyncio.create_task(it.notifications.run()),
        asyncio.create_task(keep("leases", Leases(it.store, "j1", 10, 300).round, Watch(), 0.5)),
    ]
    worker = asyncio.create_task(Worker("w1", it.store, it.notifications, [TYPE], it.handle, capacity).run(stopping, 5))
    try:
        yield it
        assert not worker.done(), "the worker must outlive the trouble"
        for task in tasks:
            if task.done():
                task.result()  # raises what ended it
            assert not task.done()
    finally:
        stopping.set()
        await ended(*tasks)
        await asyncio.wait({worker}, timeout=20)
        await ended(worker)
        await it.store.aclose()
        await it.notifications.aclose()
