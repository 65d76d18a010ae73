"""A job's hands: everything that a pipeline may do to the world, for one attempt at one job."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import posixpath
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from opentelemetry.trace import SpanKind

from services.consumer import metrics
from services.consumer.bench import Bench
from services.consumer.clock import StageClock
from services.consumer.reading import Decoded
from services.consumer.settings import Settings
from shared.costs import Use
from shared.costs.use import NAMES
from shared.dense import ModelCard
from shared.errors import InvalidInput
from shared.jobs import Job
from shared.telemetry import span

T = TypeVar("T")

#: The stage that each working state stands for, as its time is called.
_STAGE = {
    "started": "download",
    "pre-processing": "preprocess",
    "predicting": "prediction",
    "post-processing": "postprocess",
    "saving-results": "upload",
}
#: Seconds between two tellings of progress: people see it move, Redis hardly notices.
_TELL = 0.25
#: Bytes from which an array of labels lives in a file instead of in memory.
_LARGE = 64_000_000


@dataclass
class Tools:
    """What a pipeline gets for one attempt at one job.

    Attributes:
        job: the job.
        bench: what the worker's jobs share.
        scratch: a folder of this attempt's own, removed after it.
        clock: seconds of each stage.
        retries: requests to the model server that had to be repeated.
    """

    job: Job
    bench: Bench
    scratch: Path
    clock: StageClock = field(default_factory=StageClock)
    retries: int = 0
    _used: dict[str, float] = field(default_factory=lambda: dict.fromkeys(NAMES, 0.0))
    _told: tuple[str, float] = ("", 0.0)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def settings(self) -> Settings:
        """The consumer's settings."""
        return self.bench.settings

    @property
    def used(self) -> Use:
        """Seconds and bytes so far."""
        return Use(**self._used)

    @contextlib.asynccontextmanager
    async def stage(self, state: str, progress: int | None = None) -> AsyncIterator[None]:
        """Say that the job has come to a state, and count the time of the context towards its stage."""
        await self.tell(state, progress)
        with span(state), self.clock.stage(_STAGE[state]):
            yield

    async def tell(self, state: str, progress: int | None = None) -> None:
        """Have the store told how far the job has come; within a state at most some times a second."""
        now = time.monotonic()
        if state != self._told[0] or now - self._told[1] >= _TELL:
            self._told = (state, now)
            self.bench.teller.tell(self.job.held, state, progress)

    async def compute(self, function: Callable[..., T], *arguments: Any, stage: str = "") -> T:
        """Call a function of arrays in the worker's pool of threads, towards the time of a stage if one is named."""
        loop = asyncio.get_running_loop()
        with self.clock.stage(_STAGE[stage]) if stage else contextlib.nullcontext():
            return await loop.run_in_executor(self.bench.pool, self._metered, function, *arguments)

    def _metered(self, function: Callable[..., T], *arguments: Any) -> T:
        began = time.thread_time()
        try:
            return function(*arguments)
        finally:
            self._use(cpu_seconds=time.thread_time() - began)

    def _use(self, **more: float) -> None:
        with self._lock:
            for name, amount in more.items():
                self._used[name] += amount

    # Input

    async def fetch(self, name: str = "") -> Path:
        """Bring an object, by default the job's input, to a local file; on one machine it is there already."""
        name = name or self.job.input_object
        if not name:
            raise InvalidInput("The job names no input file.", code="no-input")
        path = self.bench.storage.local_path(name)
        if path is None:
            path = self.scratch / f"fetched-{hashlib.sha256(name.encode()).hexdigest()}"  # however long the name is
            await self.bench.storage.download(name, path)
        size = await asyncio.to_thread(_size, path)
        metrics.bytes_in.labels(self.job.type).inc(size)
        self._use(bytes_in=size)
        return path

    async def read(self, path: Path, dimension_order: str = "", pixel_size_um: float | None = None) -> Decoded:
        """Decode an image file in a helper process; its pixels are a file that is mapped, not held.

        What the user says of the order of axes and of the pixel size counts before what the file says.
        """
        decoded = await self.bench.decoder.decode(path, self.scratch / "image.npy", dimension_order=dimension_order)
        self._use(cpu_seconds=decoded.cpu_seconds)
        return replace(decoded, pixel_size_um=pixel_size_um or decoded.pixel_size_um)

    async def image(self, dimension_order: str = "", pixel_size_um: float | None = None) -> Decoded:
        """Bring and decode the job's input, as `read` does, telling both: how most pipelines begin."""
        async with self.stage("started", 0):
            source = await self.fetch()
        async with self.stage("pre-processing", 5):
            return await self.read(source, dimension_order, pixel_size_um)

    async def parts(self) -> list[Job]:
        """Return the parts of a job that was split, in their order; none where it was not split yet."""
        found = await self.bench.store.get_many(await self.bench.store.children(self.job.id))
        return [part for part in found if part is not None]

    # Models

    async def card(self, default: str) -> ModelCard:
        """Return the card of the model that the job names, else of the default.

        Raises:
            NotFound: there is no such model or version; names those there are.
        """
        model = self.job.fields.get("model") or default
        version = (self.job.fields.get("model_version") or "") if self.job.fields.get("model") else ""
        return await self.bench.models.card(model, version, timeout=self.settings.model_server.patience)

    async def predict(
        self, card: ModelCard, block: NDArray[Any], window: NDArray[np.float32], zoom: float
    ) -> NDArray[np.uint8]:
        """Run a model on one block; see `services.consumer.inference.protocol.ModelServer.predict`."""
        patience = self.settings.model_server.patience
        asking = span("model request", kind=SpanKind.CLIENT, model=card.name)
        with metrics.model_seconds.labels(card.name).time(), self.clock.stage("prediction"), asking:
            return await self.bench.models.predict(
                card.name,
                card.version,
                block,
                window,
                zoom,
                timeout=patience,
                kinds=len(card.objects),
                on_retry=lambda _: self._retried(card),
                on_used=lambda seconds: self._use(gpu_seconds=seconds),
            )

    def _retried(self, card: ModelCard) -> None:
        self.retries += 1
        metrics.model_retries.labels(card.name).inc()

    # Output

    def labels(self, shape: tuple[int, ...], name: str = "labels") -> NDArray[np.int32]:
        """Return int32 zeros of a shape: in memory where small, else mapped to a scratch file."""
        size = 4 * int(np.prod(shape))
        if size <= _LARGE:
            return np.zeros(shape, np.int32)
        return np.lib.format.open_memmap(self.scratch / f"{name}.npy", "w+", np.int32, shape)

    def key(self, name: str) -> str:
        """Return where this attempt stores a file of a name: under its root job, its part, its attempt."""
        hexes, _, part = self.job.id.partition(":")[2].partition(".")
        return posixpath.join("output", hexes, part.replace(".", "/"), str(self.job.attempt), name)

    async def save(self, path: Path, name: str, content_type: str) -> str:
        """Store a file; return its key."""
        key = self.key(name)
        stored = await self.bench.storage.put(key, path, content_type)
        metrics.bytes_out.labels(self.job.type).inc(stored.size)
        self._use(bytes_out=stored.size)
        return key

    def url(self, key: str) -> str:
        """Return where users read a stored result; any program may open it as it is, whatever the image was called."""
        return f"{self.settings.public_url.rstrip('/')}/results/{quote(key.removeprefix('output/'))}"

    def facts(self) -> Mapping[str, str]:
        """Return what is to be said of every attempt that ended: times in seconds, retries."""
        for stage, seconds in self.clock.spent().items():
            metrics.stage_seconds.labels(self.job.type, stage).observe(seconds)
        return {
            **self.clock.facts(),
            "total_time": f"{self._total_time():.6f}",
            "predict_retries": str(self.retries),
            "total_jobs": "1",
            "cleanup_time": "0",
            "children_upload_time": "0",
        }

    def _total_time(self) -> float:
        """Return the seconds of this attempt; where parts were waited for, those since the job was submitted."""
        if "total_jobs" in self.job.fields:  # written when it was split
            return max(self.clock.total, time.time() - int(self.job.fields["created_ms"]) / 1000)
        return self.clock.total


class Progress:
    """Tells how far a job's planes have come; they are the time from 10 to 90 percent of it."""

    def __init__(self, tools: Tools, planes: int) -> None:
        """Begin for so many planes."""
        self._tools = tools
        self._planes = planes
        self._done = 0.0

    async def add(self, share: float) -> None:
        """Count a share of a plane as done."""
        self._done += share
        await self._tools.tell("predicting", 10 + round(80 * self._done / self._planes))


def _size(path: Path) -> int:
    if not path.is_file():
        raise InvalidInput("The uploaded file is no longer there; upload it again.", code="input-gone")
    return path.stat().st_size


async def each(work: Iterable[Coroutine[Any, Any, T]], limit: int) -> list[T]:
    """Run coroutines, so many at once; the first error cancels the others and is raised as it is."""
    gate = asyncio.Semaphore(limit)

    async def one(coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            await gate.acquire()
        except asyncio.CancelledError:
            coroutine.close()
            raise
        try:
            return await coroutine
        finally:
            gate.release()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(coroutine)) for coroutine in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
