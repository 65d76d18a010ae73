"""The local scaler with the real loop, real worker processes and a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from services.autoscaler.loop import Loop
from services.autoscaler.scalers.local import LocalScaler
from services.autoscaler.settings import LocalSettings, PaceSettings
from services.autoscaler.targets import Target
from shared.errors import Retry
from shared.jobs import JobStore, NewJob, Notifications, Watch
from shared.jobs.model import new_id
from tests.fixtures.redis import RedisServer

WORKER = (sys.executable, str(Path(__file__).with_name("worker_process.py")))
TARGET = Target(
    name="consumer",
    queues={"work": 1.0},
    jobs_per_replica=1,
    min_replicas=1,
    max_replicas=3,
    cooldown=0.3,
    stabilisation_window=0.3,
)


async def until(true: Callable[[], Awaitable[bool]], seconds: float = 90.0) -> None:
    """Wait for a condition that other processes bring about."""
    async with asyncio.timeout(seconds):
        while not await true():
            await Watch().wait(0.02)


class Running:
    def __init__(self, store: JobStore, scaler: LocalScaler, task: asyncio.Task[None]) -> None:
        self.store, self.scaler, self.task = store, scaler, task

    async def names(self, *, staying: bool = True) -> set[str]:
        fleet = await self.scaler.observe(TARGET)
        return {member.name for member in (fleet.staying if staying else fleet.members)}

    async def alive(self, count: int) -> None:
        async def enough() -> bool:
            return sum(worker.alive for worker in await self.store.workers()) == count

        await until(enough)

    def pid(self, name: str) -> int:
        process = self.scaler._of(TARGET)[name].process
        assert process is not None
        return process.pid


@pytest.fixture
async def running(
    store: JobStore,
    notifications: Notifications,
    redis_server: RedisServer,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Running]:
    monkeypatch.setenv("KIOSK_REDIS__URL", redis_server.url)
    monkeypatch.setenv("KIOSK_REDIS__PREFIX", prefix)
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.setenv("GRACE", "0.2")
    scaler = LocalScaler("here", store, LocalSettings(command=WORKER, first_pause=0.05), [TARGET])
    loop = Loop(store, notifications, scaler, [TARGET], pace=PaceSettings(busy_share=0.5), reconcile=0.3)
    task = asyncio.create_task(loop.run())
    yield Running(store, scaler, task)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await scaler.aclose(30.0)
    assert not (await scaler.observe(TARGET)).members, "a worker was left behind"


async def test_grows_with_the_queue_and_shrinks_when_idle(running: Running, store: JobStore, prefix: str) -> None:
    await running.alive(1)
    jobs = [NewJob(new_id("work")) for _ in range(3)]
    await store.submit(*jobs)
    await running.alive(3)
    await until(lambda: _running(store, 3))
    await store.redis.set(prefix + "finish", "1")
    await running.alive(1)
    statuses = {job.status for job in [await store.get(job.id) for job in jobs] if job is not None}
    assert statuses == {"done"}
    decision = (await store.decisions())["consumer"]
    assert '"code": "down"' in decision or '"code": "steady"' in decision


async def test_a_busy_worker_is_never_ended_while_an_idle_one_exists(
    running: Running, store: JobStore, prefix: str
) -> None:
    await running.alive(1)
    first = NewJob(new_id("work"))
    await store.submit(first)
    await until(lambda: _running(store, 1))
    (busy,) = [worker.id for worker in await store.workers() if worker.held]
    others = [NewJob(new_id("work")) for _ in range(2)]
    await store.submit(*others)
    await running.alive(3)
    await until(lambda: _running(store, 3))
    for job in others:
        await store.cancel(job.id, "test")
    await running.alive(1)
    assert await running.names() == {busy}
    found = await store.get(first.id)
    assert found is not None
    assert found.attempt == 1
    await store.redis.set(prefix + "finish", "1")
    await until(lambda: _running(store, 0))


async def test_a_busy_worker_that_is_ended_all_the_same_loses_nothing(running: Running, store: JobStore) -> None:
    """As where the controller of a cluster picks another pod than the one that was marked."""
    await running.alive(1)
    job = NewJob(new_id("work"))
    await store.submit(job)
    await until(lambda: _running(store, 1))
    (busy,) = await running.names()
    await running.scaler.scale(TARGET, 0, [busy])
    await until(lambda: _handed_back(store, job.id, busy))
    found = await store.get(job.id)
    assert found is not None
    assert found.fields["losses"] == "0", "handing back is no loss"


async def test_one_that_dies_is_started_again(running: Running, store: JobStore) -> None:
    await running.alive(1)
    (name,) = await running.names()
    before = running.pid(name)
    os.kill(before, signal.SIGKILL)

    async def another() -> bool:
        process = running.scaler._of(TARGET)[name].process
        return process is not None and process.pid != before

    await until(another)
    await store.submit(NewJob(new_id("work")))
    await until(lambda: _running(store, 1))
    await until(lambda: _usable(running.scaler))


async def test_says_what_became_of_a_worker_that_cannot_start(store: JobStore, notifications: Notifications) -> None:
    settings = LocalSettings(command=(sys.executable, "-c", "raise SystemExit(2)"), first_pause=0.01)
    scaler = LocalScaler("here", store, settings, [TARGET])
    with pytest.raises(Retry, match="have not all started yet"):
        await scaler.check()  # also before anything was looked at
    await scaler.scale(TARGET, 1, [])

    async def died() -> bool:
        return bool((await scaler.observe(TARGET)).members[0].problem)

    await until(died)
    with pytest.raises(Retry, match="ended with exit code 2"):
        await scaler.check()
    await scaler.aclose(5.0)


async def _usable(scaler: LocalScaler) -> bool:
    with contextlib.suppress(Retry):
        await scaler.check()
        return True
    return False


async def _handed_back(store: JobStore, job_id: str, worker: str) -> bool:
    found = await store.get(job_id)
    return found is not None and (found.status == "new" or found.fields["updated_by"] != worker)


async def _running(store: JobStore, count: int) -> bool:
    return (await store.queues(["work"]))["work"].running == count
