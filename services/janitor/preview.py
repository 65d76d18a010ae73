"""``--dry-run``: says what a janitor would do now, and changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

from services.janitor.orphans import Orphans
from services.janitor.retention import output_prefix
from services.janitor.settings import Settings
from shared.jobs import JobStore
from shared.jobs.model import is_id
from shared.storage import Storage

_MOST = 10_000


async def preview(store: JobStore, storage: Storage, settings: Settings) -> AsyncIterator[str]:
    """Yield a sentence for each thing that a janitor would do now."""
    for job_id, since in await store.expired_leases(_MOST):
        yield f"take back {job_id}: its lease ran out {since:.1f} s ago"
    ids, _due = await store.due(_MOST)
    for job_id in ids:
        async for sentence in _forgetting(store, storage, job_id):
            yield sentence
    for worker in await store.workers():
        if worker.absent > settings.absent and not worker.held:
            yield f"take the worker {worker.id} off the lists: it said nothing for {worker.absent:.0f} s"
    orphans = Orphans(store, storage, settings.name, settings.orphans)
    async for batch in orphans.batches():
        for name in await orphans.doomed(batch, look=True):
            yield f"delete {storage.url(name)}: no job knows it"


async def _forgetting(store: JobStore, storage: Storage, job_id: str) -> AsyncIterator[str]:
    yield f"forget {job_id}: its retention is over"
    job = await store.get(job_id) if is_id(job_id) else None
    for name in job.uses if job else ():
        if await store.users(name) <= {job_id} and not await store.others(name):
            shared = await store.shared(name)
            yield f"delete {storage.url(shared.object if shared else name)}: only {job_id} reads it"
    async for found in storage.list(output_prefix(job_id)):
        if found.deployment == storage.deployment:
            yield f"delete {storage.url(found.key)}: a result of {job_id}"
