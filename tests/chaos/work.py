"""A worker process for chaos: the consumer's own loop on the real storage, with jobs that do harm among others.

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
from shared.storage import Storage, open_storage, read_all
from tests.chaos.trouble import make_storage_shaky

PREFIX = "{chaos}:"
TYPES = ("noop", "sleepy", "flaky", "invalid", "poison", "bundle", "part")
#: What a file begins with so that the frontend takes it for an image.
HEAD = b"II*\0"


def answer_to(payload: bytes | str) -> str:
    """Return what a job must find out about its payload."""
    return hashlib.sha256(payload.encode() if isinstance(payload, str) else payload).hexdigest()


def result_of(job: Job) -> str:
    """Return where an attempt puts its result."""
    return f"output/{job.id}/{job.attempt}/result"


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


def run(url: str, name: str, folder: str, lease: float) -> None:
    """Work until SIGTERM: the target of a process."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    make_storage_shaky(Path(folder) / "shaky")
    asyncio.run(_run(url, name, Path(folder), lease))


async def _run(url: str, name: str, folder: Path, lease: float) -> None:
    store, diary = NotingStore(connect(url), PREFIX), Diary(folder / "diary")
    store.diary = diary
    storage = open_storage(f"file://{folder}/storage")
    notifications = Notifications(url, PREFIX)
    listening = asyncio.create_task(notifications.run())
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)

    async def handle(job: Job) -> Outcome:
        diary.note("start", job.id, job.attempt, name)
        try:
            return await _outcome(store, storage, job)
        except Retry as error:
            raise Retry(str(error), after=0.05) from error  # a run has no time for the usual pauses

    capacity = Capacity(slots=8, lease=lease, renew=lease / 3, reconcile=lease / 2)
    await Worker(name, store, notifications, TYPES, handle, capacity).run(stopping, lease)
    await ended(listening)


async def _outcome(store: JobStore, storage: Storage, job: Job) -> Outcome:
    if job.type == "part":
        return await _done(storage, job, job.fields["payload"])
    if job.type == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    if job.type == "sleepy":
        await asyncio.sleep(random.uniform(0, 0.1))
    elif job.type == "flaky" and random.random() < 0.3:
        raise Retry("The model server is away.")
    elif job.type == "invalid":
        raise InvalidInput("This is no image.")
    elif job.type == "bundle":
        return await _bundle(store, storage, job)
    return await _done(storage, job, await read_all(storage.get(job.input_object)))


async def _bundle(store: JobStore, storage: Storage, job: Job) -> Outcome:
    children = await store.children(job.id)
    if not children:
        members = int((await read_all(storage.get(job.input_object))).removeprefix(HEAD))
        return Split([("part", {"payload": f"{job.id} {number}"}) for number in range(members)])
    answers = [child.fields.get("answer", "") for child in await store.get_many(children) if child]
    return await _done(storage, job, "+".join(answers))


async def _done(storage: Storage, job: Job, payload: bytes | str) -> Done:
    answer = answer_to(payload)
    await storage.put(result_of(job), answer.encode())
    return Done({"answer": answer, "output": result_of(job)})
