"""The event hub where Redis is away; a clock that jumps from timer to timer stands in for the time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import pytest

from services.frontend.hub import KEEP_ALIVE, Hub
from shared.errors import Retry
from shared.jobs import JobStore
from shared.lifecycle import ended


class Jumps(selectors.SelectSelector):
    """Does not wait for a timer, but moves the clock on to it."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.now += timeout or 0.0
        return super().select(None if timeout is None else 0)


class Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumps = Jumps()
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.now


class Away:
    """A store that cannot reach Redis, and tries for a while each time."""

    async def fields_of_many(self, _asked: object) -> list[Any]:
        await asyncio.sleep(2)
        raise Retry("Redis cannot be reached.")

    get_many = fields_of_many


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=Loop) as runner:
        yield runner


def test_streams_are_kept_alive_while_redis_is_away(runner: asyncio.Runner) -> None:
    waits = runner.run(_waits(4))
    # The first beat of a stream comes at its place in the turn.
    assert 0 < waits[0] <= KEEP_ALIVE
    assert waits[1:] == pytest.approx([KEEP_ALIVE] * 3)


async def _waits(beats: int) -> list[float]:
    """Return the s between the beats of a stream."""
    hub = Hub(cast("JobStore", Away()), None, reconcile=1.0)
    tasks = [asyncio.create_task(hub.run()), asyncio.create_task(hub.beat())]
    clock = asyncio.get_running_loop().time
    times = [clock()]
    async with hub.subscribe(["segmentation:1"]) as subscription:
        for _ in range(beats):
            assert await subscription.changes() == {}
            times.append(clock())
    await ended(*tasks)
    return [after - before for before, after in pairwise(times)]


class Damaged:
    """A store in which a hash holds what no script would have written."""

    async def fields_of_many(self, asked: list[Any]) -> list[Any]:
        found = {"status": "predicting", "owner": "ann", "progress": "half", "total_time": "nan"}
        return [[found.get(name) for name in names] for _, names in asked]

    get_many = fields_of_many

    async def owned(self, _owner: str, count: int) -> list[Any]:
        return []


def test_a_damaged_job_ends_no_stream(runner: asyncio.Runner) -> None:
    async def changes() -> list[Any]:
        hub = Hub(cast("JobStore", Damaged()), None, reconcile=1.0)
        hub._estimates.learn("segmentation", "10")
        task = asyncio.create_task(hub.run())
        async with hub.subscribe(["segmentation:1"]) as subscription:
            told = list((await subscription.changes()).values())
        await ended(task)
        return told

    ((told),) = runner.run(changes())
    assert (told["progress"], told["eta"]) == ("half", "10")
