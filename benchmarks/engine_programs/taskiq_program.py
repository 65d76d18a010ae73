"""taskiq with taskiq-redis: the list broker (its fastest; it acknowledges nothing), prefetch on, no results."""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop
from probe import Probe, pace, told
from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker

command, url, *rest = sys.argv[1:]
broker = ListQueueBroker(url)
probe = Probe(rest[0]) if command == "work" else None


@broker.task
async def noop(sent: float) -> None:
    assert probe is not None
    probe.hit(sent)


async def work() -> None:
    await broker.startup()
    await run_receiver_task(broker, max_async_tasks=200, max_prefetch=200, validate_params=False)


async def submit(count: int, how: str) -> None:
    await broker.startup()
    began = time.monotonic()
    if how == "bulk":
        for start in range(0, count, 200):
            await asyncio.gather(*(noop.kiq(0.0) for _ in range(min(200, count - start))))
    else:
        for _ in range(count):
            await noop.kiq(0.0)
    told(began)
    await broker.shutdown()


async def paced(count: int, pause: float) -> None:
    await broker.startup()
    await pace(noop.kiq, count, pause)
    await broker.shutdown()


if __name__ == "__main__":
    if command == "work":
        broker.is_worker_process = True
        uvloop.run(work())
    elif command == "submit":
        uvloop.run(submit(int(rest[0]), rest[1]))
    else:
        uvloop.run(paced(int(rest[0]), float(rest[1])))
