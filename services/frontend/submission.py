"""Orders for jobs: checked, turned into jobs, and submitted, many in one round trip under load."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

import structlog

from services.frontend import metrics, sniff
from services.frontend.catalogue import ARCHIVE, Catalogue, checked_options
from services.frontend.coalesce import Coalescer
from services.frontend.errors import TooMany
from services.frontend.repeats import refuse_another
from services.frontend.settings import JobSettings, QuotaSettings
from shared.errors import InvalidInput
from shared.jobs import Job, JobStore, JobType, NewJob, Submitted
from shared.jobs.model import new_id
from shared.telemetry import current_traceparent
from shared.telemetry.counting import LoopCounter

log = structlog.get_logger(__name__)


@functools.lru_cache(maxsize=100)
def _counter(kind: str) -> LoopCounter:
    return metrics.submitted.labels(kind)


@dataclass(frozen=True)
class Order:
    """What somebody wants done.

    Attributes:
        kind: the job type; for an archive, that of its images.
        key: the uploaded file, by its key in storage.
        name: the file's name as the user knows it.
        options: of the job type, not yet checked.
        model: the model's name; empty leaves it to the job type.
        version: the model's version; empty: the newest.
        owner: whose job it is.
        facts: more to be written into the job, such as the address of a webhook.
    """

    kind: JobType
    key: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    version: str = ""
    owner: str = "anonymous"
    priority: int = 0
    job_id: str = ""
    idempotency_key: str = ""
    batch: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
    def archive(self) -> bool:
        """Whether the file holds many images."""
        return sniff.is_archive(self.key) or sniff.is_archive(self.name)


class Desk:
    """Takes orders."""

    def __init__(self, store: JobStore, catalogue: Catalogue, jobs: JobSettings, quotas: QuotaSettings) -> None:
        """Submit to a store."""
        self._store = store
        self._catalogue = catalogue
        self._jobs = jobs
        self._quotas = quotas
        self._log = log.bind()
        self._submit = Coalescer(self._submit_many, alone=True)
        #: One for each owner with orders under way.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def submit(self, order: Order) -> Submitted:
        """Submit one job; the same order again, under the same id or key, is the same job.

        Raises:
            InvalidInput: the model, the options or the archive are not what there is; or the id or the key were used
                for another order.
            TooMany: too many of the owner's jobs wait.
        """
        job = self.new_job(order, await self.check(order))
        async with self._room(job.owner, job):
            answer = await self._submit(job)
        if not answer.created:
            await refuse_another(self._store, job, answer.id)
        self._tell(order, answer)
        return answer

    async def submit_batch(self, orders: list[Order]) -> list[Submitted]:
        """Submit many jobs, of which none is submitted where one is refused; raises as ``submit`` does."""
        jobs = [self.new_job(order, await self.check(order)) for order in orders]
        async with self._room(jobs[0].owner, *jobs):
            answers = await self._store.submit(*jobs)
        for order, job, answer in zip(orders, jobs, answers, strict=True):
            if not answer.created:
                await refuse_another(self._store, job, answer.id)
            self._tell(order, answer)
        return answers

    async def again(self, job: Job) -> str:
        """Submit a failed or canceled job again, as a new one; return its id.

        Raises:
            InvalidInput: it is not such a job.
            TooMany: too many of the owner's jobs wait.
        """
        async with self._room(job.owner):
            return await self._store.revive(job.id, new_id(job.type))

    async def check(self, order: Order) -> str:
        """Refuse what cannot be done, before any work; return the options as JSON."""
        options = checked_options(order.kind, order.options)
        await self._catalogue.check_model(order.model, order.version)
        if order.archive and ARCHIVE not in await self._catalogue.types():
            raise InvalidInput(
                "Archives are not analysed here: no consumer serves them. Send the images one by one.",
                code="unknown-job-type",
            )
        return options

    @contextlib.asynccontextmanager
    async def _room(self, owner: str, *jobs: NewJob) -> AsyncIterator[None]:
        """Have room for an owner's jobs, or for one that is still to be made, where the jobs that wait are limited.

        The owner's orders take turns: many at once would each be given the last room.
        """
        if not self._quotas.waiting:
            yield
            return
        async with self._turns.setdefault(owner, asyncio.Lock()):
            # Those that are there already are no more than they were.
            if fresh := await self._store.unknown(*jobs) if jobs else 1:
                await self._check_room(owner, fresh)
            yield

    async def _check_room(self, owner: str, fresh: int) -> None:
        waiting = await self._store.waiting(owner, list(await self._catalogue.types()))
        if waiting + fresh > self._quotas.waiting:
            metrics.refused.labels("waiting-jobs").inc()
            raise TooMany(
                f"{waiting} of your jobs wait already; at most {self._quotas.waiting} may. Come again later.",
                code="too-many-jobs",
                after=10,
            )

    def new_job(self, order: Order, options: str) -> NewJob:
        """Return the job of an order with its checked options."""
        job_type = ARCHIVE if order.archive else order.kind.name
        facts = {
            "input_file_name": order.key,
            "original_name": order.name,
            "options": options,
            "model": order.model or order.kind.model,
            "model_version": order.version,
            "traceparent": current_traceparent(),
            **({"item_type": order.kind.name} if order.archive else {}),
            **order.facts,
        }
        return NewJob(
            order.job_id or new_id(job_type),
            facts,
            owner=order.owner,
            priority=order.priority,
            max_attempts=self._jobs.max_attempts,
            retention=self._jobs.retention,
            uses=(order.key,),
            idempotency_key=order.idempotency_key,
            batch=order.batch,
        )

    async def _submit_many(self, jobs: list[NewJob]) -> list[Submitted]:
        return await self._store.submit(*jobs)

    def _tell(self, order: Order, answer: Submitted) -> None:
        if answer.created:
            _counter(order.kind.name).inc()
            self._log.info("job-submitted", job=answer.id, owner=order.owner, file=order.key, batch=order.batch or None)
