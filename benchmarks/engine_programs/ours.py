"""CellKiosk's engine: the consumer's own worker loop, with leases, fencing and write-once facts."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import structlog
from probe import Probe, pace, told

from services.consumer.worker import Capacity, Done, Worker
from shared.jobs import Job, NewJob, Notifications, open_store
from shared.jobs.model import new_id

PREFIX, TYPE = "{bench}:", "noop"


async def work(url: str, path: str) -> None:
    import logging

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING), logger_factory=_quiet)
    probe = Probe(path)
    store, notifications = open_store(url, PREFIX), Notifications(url, PREFIX)
    listening = asyncio.create_task(notifications.run())
    await notifications.ready()

    async def noop(job: Job) -> Done:
        probe.hit(float(job.fields["sent"]))
        return Done({})

    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    slots = int(os.environ.get("SLOTS", "200"))
    await Worker(f"w{os.getpid()}", store, notifications, [TYPE], noop, Capacity(slots=slots)).run(stopping, 5)
    listening.cancel()


async def submit(url: str, count: int, how: str) -> None:
    store = open_store(url, PREFIX)
    await store.ping()
    began = time.monotonic()
    if how == "bulk":
        for start in range(0, count, 5_000):
            await store.submit(*(_job(0.0) for _ in range(min(5_000, count - start))))
    else:
        for _ in range(count):
            await store.submit(_job(0.0))
    told(began)
    await store.aclose()


async def paced(url: str, count: int, pause: float) -> None:
    store = open_store(url, PREFIX)
    await pace(lambda sent: store.submit(_job(sent)), count, pause)
    await store.aclose()


def _job(sent: float) -> NewJob:
    return NewJob(new_id(TYPE), {"sent": str(sent)})


def _quiet(*_args: object) -> structlog.PrintLogger:
    return structlog.PrintLogger(Path(os.devnull).open("w"))


if __name__ == "__main__":
    command, url, *rest = sys.argv[1:]
    if command == "work":
        asyncio.run(work(url, rest[0]))
    elif command == "submit":
        asyncio.run(submit(url, int(rest[0]), rest[1]))
    else:
        asyncio.run(paced(url, int(rest[0]), float(rest[1])))
