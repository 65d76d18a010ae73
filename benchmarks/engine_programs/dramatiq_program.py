"""dramatiq: one process of eight threads, as its command line starts by default; only the middleware that retries."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Retries
from probe import Probe, pace, told

command, url, *rest = sys.argv[1:]
broker = RedisBroker(url=url, middleware=[Retries()])
dramatiq.set_broker(broker)
probe = Probe(rest[0]) if command == "work" else None
lock = threading.Lock()


@dramatiq.actor
def noop(sent: float) -> None:
    assert probe is not None
    with lock:
        probe.hit(sent)


def work() -> None:
    worker = dramatiq.Worker(broker, worker_threads=8)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    worker.start()
    while not stop.wait(0.2):
        pass
    worker.stop()


def submit(count: int) -> None:
    noop.send(0.0)
    began = time.monotonic()
    for _ in range(count - 1):
        noop.send(0.0)
    told(began)


async def _send(sent: float) -> None:
    noop.send(sent)


if __name__ == "__main__":
    if command == "work":
        work()
    elif command == "submit":
        submit(int(rest[0]))
    else:
        asyncio.run(pace(_send, int(rest[0]), float(rest[1])))
