"""streaq: concurrency and prefetch raised, uvloop on, as its page on performance says."""

from __future__ import annotations

import sys
import time

import uvloop
from probe import Probe, pace, told
from streaq import Worker

command, url, *rest = sys.argv[1:]
worker: Worker = Worker(redis_url=url, concurrency=200, prefetch=200, anyio_kwargs={"use_uvloop": True})
probe = Probe(rest[0]) if command == "work" else None


@worker.task(ttl=0)
async def noop(sent: float) -> None:
    assert probe is not None
    probe.hit(sent)


async def submit(count: int, how: str) -> None:
    async with worker:
        began = time.monotonic()
        if how == "bulk":
            for start in range(0, count, 5_000):
                await worker.enqueue_many([noop.enqueue(0.0) for _ in range(min(5_000, count - start))])
        else:
            for _ in range(count):
                await noop.enqueue(0.0)
        told(began)


async def _enqueue(sent: float) -> None:
    await noop.enqueue(sent)


async def paced(count: int, pause: float) -> None:
    async with worker:
        await pace(_enqueue, count, pause)


if __name__ == "__main__":
    if command == "work":
        worker.run_sync()
    elif command == "submit":
        uvloop.run(submit(int(rest[0]), rest[1]))
    else:
        uvloop.run(paced(int(rest[0]), float(rest[1])))
