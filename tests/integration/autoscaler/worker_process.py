"""A real worker in a process of its own, whose jobs end when the test says so (the key ``finish`` exists)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

from services.consumer.worker import Capacity, Done, Outcome, Worker
from shared.jobs import Job, Notifications, open_store


async def main() -> None:
    url, prefix = os.environ["KIOSK_REDIS__URL"], os.environ["KIOSK_REDIS__PREFIX"]
    store, notifications = open_store(url, prefix), Notifications(url, prefix)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)

    async def handle(_job: Job) -> Outcome:
        async with notifications.watch("finish") as watch:
            while not await store.redis.exists(prefix + "finish"):
                await watch.wait(0.2)
        return Done()

    receiving = asyncio.create_task(notifications.run())
    await notifications.ready()
    worker = Worker(os.environ["KIOSK_NAME"], store, notifications, ["work"], handle, Capacity(slots=1, renew=0.2))
    await worker.run(stopping, grace=float(os.environ.get("GRACE", "5")))
    receiving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await receiving
    await notifications.aclose()
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main())
