"""Calls that come while one is under way are gathered into the next one: under load, many in one round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from shared.errors import KioskError

A = TypeVar("A")
B = TypeVar("B")


class Coalescer(Generic[A, B]):
    """One call for many items; the answers come in the order of the items.

    A lone call is made at once: nothing waits for company.
    """

    def __init__(self, call: Callable[[list[A]], Awaitable[list[B]]], most: int = 200, *, alone: bool = False) -> None:
        """Use ``call`` for up to ``most`` items; ``alone`` tries each item by itself where a call for many failed."""
        self._call = call
        self._most = most
        self._alone = alone
        self._waiting: list[tuple[A, asyncio.Future[B]]] = []
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, item: A) -> B:
        """Return the answer to one item, or raise what the call raised."""
        future: asyncio.Future[B] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain(), name="coalesce")
        return await future

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            await self._answer(batch)

    async def _answer(self, batch: list[tuple[A, asyncio.Future[B]]]) -> None:
        try:
            answers = await self._call([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001  # whatever it is, those who wait must hear of it
            if self._alone and len(batch) > 1 and isinstance(error, KioskError):
                for pair in batch:
                    await self._answer([pair])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
