"""The memory budget: first come, first served, and nothing is lost when somebody gives up waiting."""

from __future__ import annotations

import asyncio
import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from services.consumer.memory import MemoryBudget


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Holder:
    """Somebody who wants memory and gives it back when told."""

    def __init__(self, budget: MemoryBudget, size: int) -> None:
        self.holds = False
        self._leave = asyncio.Event()
        self.task = asyncio.create_task(self._hold(budget, size))

    async def _hold(self, budget: MemoryBudget, size: int) -> None:
        async with budget.reserve(size):
            self.holds = True
            await self._leave.wait()
        self.holds = False

    async def leave(self) -> None:
        self._leave.set()
        await self.task

    async def give_up(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


async def test_what_does_not_fit_waits_its_turn() -> None:
    budget = MemoryBudget(100)
    first, second, third = Holder(budget, 60), Holder(budget, 60), Holder(budget, 10)
    await _settle()
    assert [first.holds, second.holds, third.holds] == [True, False, False]  # the small one does not overtake
    await first.leave()
    await _settle()
    assert [second.holds, third.holds] == [True, True]
    await second.leave()
    await third.leave()


async def test_one_larger_than_the_budget_gets_all_of_it_alone() -> None:
    budget = MemoryBudget(100)
    small, huge = Holder(budget, 1), Holder(budget, 10_000)
    await _settle()
    assert (small.holds, huge.holds) == (True, False)
    await small.leave()
    await _settle()
    assert huge.holds
    await huge.leave()


async def test_giving_up_at_the_head_of_the_line_lets_the_next_in() -> None:
    budget = MemoryBudget(100)
    holding, waiting, next_one = Holder(budget, 50), Holder(budget, 100), Holder(budget, 50)
    await _settle()
    await waiting.give_up()
    await _settle()
    assert next_one.holds
    await holding.leave()
    await next_one.leave()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 150), st.booleans()), min_size=1, max_size=12))
def test_everything_comes_back(wishes: list[tuple[int, bool]]) -> None:
    async def play() -> bool:
        budget = MemoryBudget(100)
        holders = [(Holder(budget, size), gives_up) for size, gives_up in wishes]
        for holder, gives_up in holders:
            await _settle()
            await (holder.give_up() if gives_up else holder.leave())
        last = Holder(budget, 100)
        await _settle()
        whole = last.holds
        await last.leave()
        return whole

    assert asyncio.run(play())
