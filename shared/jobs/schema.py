"""The version of the keys in Redis: checked at every start, raised step by step, never lowered.

Versions of CellKiosk that share a schema work side by side, so that an upgrade replaces part by part. A newer schema
is refused. An older one is brought up to date by the first service that starts, once no worker of another version
lives: what cannot be done beside running workers is not done beside them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

import structlog

from shared.errors import Misconfigured, Retry
from shared.jobs import keys
from shared.jobs.store import JobStore
from shared.version import VERSION

log = structlog.get_logger(__name__)

Step = Callable[[JobStore], Awaitable[None]]
#: For each version the step to the next. A step that was broken off is done again from its beginning.
STEPS: Mapping[int, Step] = {}

_WORK = "migration"
#: s that one step may take before another process takes it to have died.
_LONGEST = 600.0


async def fit(
    store: JobStore, by: str, *, version: int = keys.SCHEMA_VERSION, steps: Mapping[int, Step] = STEPS
) -> None:
    """See that Redis holds keys of our version; bring those of an older one up to date.

    Args:
        store: of the deployment.
        by: name of this process.
        version: ours.
        steps: from each older version to the next.

    Raises:
        Misconfigured: Redis holds a newer version, one that is too old, or workers of another version still live.
        Retry: Redis is away, or another process is bringing it up to date.
    """
    await store.set_schema(version, first=True)
    while (found := await compared(store, version)) < version:
        if found not in steps:
            raise Misconfigured(
                f"Redis holds jobs of schema {found}; this version of CellKiosk works with {version} and knows no way "
                f"from there. Upgrade to a version in between first."
            )
        await _no_other_workers(store, found)
        if not await store.take_turn(_WORK, by, _LONGEST):
            raise Retry(f"Another process is bringing Redis from schema {found} up to date.", after=1.0)
        try:
            if await store.schema() == found:  # nobody did it before it was our turn
                await steps[found](store)
                await store.set_schema(found + 1)
                log.info("schema-raised", schema=found + 1)
        finally:
            await store.end_turn(_WORK, by)


async def wait_until_fit(store: JobStore, by: str, stopping: asyncio.Event) -> None:
    """`fit`, again and again while Redis is away or another process is at it; returns early when told to stop."""
    while not stopping.is_set():
        try:
            await fit(store, by)
        except Retry as error:
            log.warning("redis-awaited", error=str(error))
        else:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await stopping.wait()


async def compared(store: JobStore, version: int = keys.SCHEMA_VERSION) -> int:
    """Return the version that Redis holds, ours where it holds none.

    Raises:
        Misconfigured: it is newer than ours.
    """
    found = await store.schema()
    if found is not None and found > version:
        raise Misconfigured(
            f"Redis holds jobs of schema {found}, of a newer version of CellKiosk; this one works with {version}. "
            "Start the newer version: there is no way back."
        )
    return version if found is None else found


async def _no_other_workers(store: JobStore, found: int) -> None:
    living = sorted(
        worker.id for worker in await store.workers() if worker.alive and worker.facts.get("version") != VERSION
    )
    if living:
        raise Misconfigured(
            f"Redis holds jobs of schema {found}, and workers of another version live: {', '.join(living[:5])}. "
            "Stop all services of that version, then start this one again."
        )
