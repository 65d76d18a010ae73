"""Not an engine: the least that waking a worker by an event and claiming by script can cost. No lease, no token."""

from __future__ import annotations

import asyncio
import sys
import time

from probe import Probe, pace
from redis.asyncio import Redis

CLAIM = "return redis.call('LPOP', KEYS[1])"
SUBMIT = "redis.call('RPUSH', KEYS[1], ARGV[1]) redis.call('SET', KEYS[2], '1', 'PX', 1000)"


async def work(url: str, path: str) -> None:
    probe, redis = Probe(path), Redis.from_url(url, decode_responses=True)
    claim = redis.register_script(CLAIM)
    await redis.config_set("notify-keyspace-events", "K$h")
    pubsub = redis.pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe("__keyspace@0__:wake")
    async for _message in pubsub.listen():
        while sent := await claim(keys=["queue"]):
            probe.hit(float(sent))


async def paced(url: str, count: int, pause: float) -> None:
    redis = Redis.from_url(url, decode_responses=True)
    submit = redis.register_script(SUBMIT)
    await pace(lambda sent: submit(keys=["queue", "wake"], args=[sent]), count, pause)
    await redis.aclose()


if __name__ == "__main__":
    command, url, *rest = sys.argv[1:]
    if command == "work":
        asyncio.run(work(url, rest[0]))
    elif command == "submit":
        sys.stdout.write(f"{time.monotonic()}\n")
    else:
        asyncio.run(paced(url, int(rest[0]), float(rest[1])))
