"""arq: many jobs at once, results not kept, the polling interval lowered."""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop
from arq import Worker, create_pool
from arq.connections import RedisSettings
from arq.worker import func
from probe import Probe, pace, told

probe: Probe


async def noop(_ctx: object, sent: float) -> None:
    probe.hit(sent)


async def work(url: str) -> None:
    worker = Worker(
        functions=[func(noop, keep_result=0)],  # type: ignore[arg-type]
        redis_settings=RedisSettings.from_dsn(url),
        max_jobs=200,
        poll_delay=0.005,
        handle_signals=False,
    )
    await worker.main()


async def submit(url: str, count: int, how: str) -> None:
    pool = await create_pool(RedisSettings.from_dsn(url))
    began = time.monotonic()
    if how == "bulk":
        for start in range(0, count, 100):
            await asyncio.gather(*(pool.enqueue_job("noop", 0.0) for _ in range(min(100, count - start))))
    else:
        for _ in range(count):
            await pool.enqueue_job("noop", 0.0)
    told(began)
    await pool.aclose()


async def paced(url: str, count: int, pause: float) -> None:
    pool = await create_pool(RedisSettings.from_dsn(url))
    await pace(lambda sent: pool.enqueue_job("noop", sent), count, pause)
    await pool.aclose()


if __name__ == "__main__":
    command, url, *rest = sys.argv[1:]
    if command == "work":
        probe = Probe(rest[0])
        uvloop.run(work(url))
    elif command == "submit":
        uvloop.run(submit(url, int(rest[0]), rest[1]))
    else:
        uvloop.run(paced(url, int(rest[0]), float(rest[1])))
