"""What the scripts that draw the documentation's pictures share: their command line, and the parts that they run."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from shared.jobs import JobStore, Notifications, open_store
from tests.fixtures.consumer import MODELS, Consumer, running_consumer
from tests.fixtures.redis import RedisServer

PREFIX = "{pictures}:"


def main(description: str, draw: Callable[[Path], Awaitable[None]]) -> None:
    """Draw into the folder that the command line names."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    async def run() -> None:
        await draw(options.out)

    asyncio.run(run())


@contextlib.asynccontextmanager
async def running_redis(folder: Path) -> AsyncIterator[tuple[RedisServer, JobStore, Notifications]]:
    """Run Redis, with a store and a subscription on it."""
    redis = RedisServer(folder / "redis").start()
    store, notifications = open_store(redis.url, PREFIX), Notifications(redis.url, PREFIX)
    listening = asyncio.create_task(notifications.run())
    try:
        yield redis, store, notifications
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await notifications.aclose()
        await store.aclose()
        redis.stop()


def with_models(
    store: JobStore, notifications: Notifications, folder: Path
) -> contextlib.AbstractAsyncContextManager[Consumer]:
    """Run a consumer with the bundled models for the time of the context."""
    return running_consumer(store, notifications, folder, f"onnx://{MODELS}")
