"""SAQ: concurrency raised, the queue's limit on connections left as it is."""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop
from probe import Probe, pace, told
from saq import Queue, Worker

probe: Probe


async def noop(_ctx: object, *, sent: float) -> None:
    probe.hit(sent)


async def submit(url: str, count: int, how: str) -> None:
    queue = Queue.from_url(url)
    await queue.connect()
    began = time.monotonic()
    if how == "bulk":
        for start in range(0, count, 100):
            await asyncio.gather(*(queue.enqueue("noop", sent=0.0) for _ in range(min(100, count - start))))
    else:
        for _ in range(count):
            await queue.enqueue("noop", sent=0.0)
    told(began)
    await queue.disconnect()


async def paced(url: str, count: int, pause: float) -> None:
    queue = Queue.from_url(url)
    await queue.connect()
    await pace(lambda sent: queue.enqueue("noop", sent=sent), count, pause)
    await queue.disconnect()


async def work(url: str) -> None:
    queue = Queue.from_url(url)
    await queue.connect()
    await Worker(queue, functions=[noop], concurrency=100).start()


if __name__ == "__main__":
    command, url, *rest = sys.argv[1:]
    if command == "work":
        probe = Probe(rest[0])
        uvloop.run(work(url))
    elif command == "submit":
        uvloop.run(submit(url, int(rest[0]), rest[1]))
    else:
        uvloop.run(paced(url, int(rest[0]), float(rest[1])))
