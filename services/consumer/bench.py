"""What all jobs of one worker share: connections, helper processes, threads, memory."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

from services.consumer import metrics
from services.consumer.inference import ModelServer, open_model_server
from services.consumer.memory import MemoryBudget
from services.consumer.reading import Decoder, ReadLimits
from services.consumer.settings import Settings
from services.consumer.telling import Teller
from shared.jobs import JobStore
from shared.storage import Storage, open_storage


@dataclass(frozen=True)
class Bench:
    """The shared parts of one worker, open."""

    settings: Settings
    store: JobStore
    storage: Storage
    models: ModelServer
    decoder: Decoder
    pool: Executor
    memory: MemoryBudget
    teller: Teller

    @property
    def worker(self) -> str:
        """The worker's name, under which it holds jobs."""
        return self.settings.name


@contextlib.asynccontextmanager
async def open_bench(settings: Settings, store: JobStore) -> AsyncIterator[Bench]:
    """Open what all jobs share; close it, and remove what is left in the scratch folder, at the end."""
    limits, work = settings.limits, settings.work
    scratch = settings.scratch / settings.name
    await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
    storage = open_storage(
        settings.storage.url, settings.storage.deployment, gcs_api_root=settings.storage.gcs_api_root
    )
    models = open_model_server(settings.model_server.url, threads=work.threads)
    decoder = Decoder(
        ReadLimits(pixels=limits.image_pixels, planes=limits.frames, bytes=limits.job_memory),
        processes=limits.decoders,
        timeout=limits.decode_seconds,
    )
    pool = ThreadPoolExecutor(work.threads, "arrays")
    memory = MemoryBudget(work.memory, metrics.memory_reserved.set)
    teller = Teller(store, settings.name)
    try:
        yield Bench(settings, store, storage, models, decoder, pool, memory, teller)
    finally:
        await teller.aclose()
        await decoder.aclose()
        await models.aclose()
        await storage.aclose()
        pool.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
