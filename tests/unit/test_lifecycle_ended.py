"""Stopping tasks, those that swallow a cancellation too."""

from __future__ import annotations

import asyncio
import contextlib

from shared.lifecycle import ended


async def test_a_task_that_swallows_a_cancellation_is_told_again() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        swallowed += 1
        await asyncio.Event().wait()

    async def faulty() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    tasks = [asyncio.create_task(work()) for work in (stubborn, faulty)]
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await ended(*tasks, again=0.01)
    assert swallowed == 1
    assert all(task.done() for task in tasks)
