"""A worker process for chaos: the consumer's own loop, with jobs that need no image and some that do harm.

Every start of an attempt and every accepted end is noted in a file of the whole run, so that what happened can be
told afterwards, whoever was killed.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from services.consumer.worker import Capacity, Done, Outcome, Split, Worker
from shared.errors import InvalidInput, Retry
from shared.jobs import Held, Job, JobStore, Notifications
from shared.jobs.connection import connect
from shared.lifecycle import ended

PREFIX = "{chaos}:"
TYPES = ("noop", "sleepy", "flaky", "invalid", "poison", "archive", "part")


def answer_to(payload: str) -> str:
    """Return what a job must find out about its payload."""
    return hashlib.sha256(payload.encode()).hexdigest()


class Diary:
    """Lines in one file by many processes: each is one write at its end, so none is mixed with another."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, *words: object) -> None:
        os.write(self._file, (" ".join(map(str, (*words, time.monotonic()))) + "\n").encode())


class NotingStore(JobStore):
    """Notes which ends the store accepted."""

    diary: Diary

    async def complete(self, worker: str, *results: tuple[Held, Mapping[str, str]]) -> list[bool]:
        accepted = await super().complete(worker, *results)
        for (held, _facts), taken in zip(results, accepted, strict=True):
            self.diary.note("end" if taken else "refused", held.id, held.attempt, worker)
        return accepted

    async def fail(self, worker: str, held: Held, reason: str, **how: Any) -> str:
        outcome = await super().fail(worker, held, reason, **how)
        self.diary.note("end" if outcome in {"failed", "buried"} else "lost", held.id, held.attempt, worker)
        return outcome


def run(url: str, name: str, diary: str, lease: float) -> None:
    """Work until SIGTERM: the target of a process."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    asyncio.run(_run(url, name, Diary(Path(diary)), lease))


async def _run(url: str, name: str, diary: Diary, lease: float) -> None:
    store = NotingStore(connect(url), PREFIX)
    store.diary = diary
    notifications = Notifications(url, PREFIX)
    listening = asyncio.create_task(notifications.run())
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)

    async def handle(job: Job) -> Outcome:
        diary.note("start", job.id, job.attempt, name)
        return await _outcome(store, job)

    capacity = Capacity(slots=8, lease=lease, renew=lease / 3, reconcile=lease / 2)
    await Worker(name, store, notifications, TYPES, handle, capacity).run(stopping, lease)
    await ended(listening)


async def _outcome(store: JobStore, job: Job) -> Outcome:
    payload = job.fields.get("payload", "")
    if job.type == "sleepy":
        await asyncio.sleep(random.uniform(0, 0.1))
    elif job.type == "flaky" and random.random() < 0.3:
        raise Retry("The storage or the model server is away.", after=0.05)
    elif job.type == "invalid":
        raise InvalidInput("This is no image.")
    elif job.type == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    elif job.type == "archive":
        return await _archive(store, job, int(payload))
    return Done({"answer": answer_to(payload), "output": f"output/{job.id}/{job.attempt}/result"})


async def _archive(store: JobStore, job: Job, members: int) -> Outcome:
    children = await store.children(job.id)
    if not children:
        return Split([("part", {"payload": f"{job.id} {number}"}) for number in range(members)])
    answers = [child.fields.get("answer", "") for child in await store.get_many(children) if child]
    return Done({"answer": answer_to("+".join(answers)), "output": f"output/{job.id}/{job.attempt}/result"})
