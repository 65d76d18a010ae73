"""What is told of jobs: the newest of each, many in one call, and nothing that Redis's trouble could end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from services.consumer.telling import Teller
from shared.errors import Retry
from shared.jobs import Held, JobStore

Move = tuple[Held, str, int | None]
ONE, OTHER = Held("segmentation:1", 1), Held("segmentation:2", 1)


class Written:
    """Takes what would be written to the store; the first calls do what they are told to."""

    def __init__(self, *first: Callable[[], Awaitable[None]]) -> None:
        self.calls: list[tuple[Move, ...]] = []
        self.more = asyncio.Event()
        self._first = list(first)

    async def advance(self, worker: str, *moves: Move) -> list[bool]:
        assert worker == "w1"
        if self._first:
            await self._first.pop(0)()
        self.calls.append(moves)
        self.more.set()
        return [True] * len(moves)

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.calls) < count:
                self.more.clear()
                await self.more.wait()


def teller(written: Written) -> Teller:
    return Teller(cast("JobStore", written), "w1")


async def test_what_comes_during_a_call_goes_into_the_next_the_newest_of_each_job() -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        begun.set()
        await go.wait()

    written = Written(hang)
    told = teller(written)
    told.tell(ONE, "pre-processing", 5)
    await begun.wait()
    for percent in range(10, 60, 10):
        told.tell(ONE, "predicting", percent)
        told.tell(OTHER, "predicting", percent)
    told.tell(OTHER, "saving-results")
    go.set()
    await written.reach(2)
    await told.aclose()
    assert written.calls == [
        ((ONE, "pre-processing", 5),),
        ((ONE, "predicting", 50), (OTHER, "saving-results", 50)),
    ]


async def test_what_could_not_be_written_is_written_later_unless_there_is_news() -> None:
    told: Teller

    async def away() -> None:
        told.tell(ONE, "post-processing", 80)
        raise Retry("Redis is away.", after=0.001)

    written = Written(away)
    told = teller(written)
    told.tell(ONE, "predicting", 10)
    told.tell(OTHER, "predicting", 20)
    await written.reach(1)
    await told.aclose()
    assert written.calls == [((ONE, "post-processing", 80), (OTHER, "predicting", 20))]
