"""How long a waiting job may take: by its place, the others' turns, and what runs."""

from __future__ import annotations

from typing import Any, cast

import pytest

from services.frontend.estimates import Estimate, Estimates
from shared.jobs.model import QueueState


class Store:
    """Queues and ranks as the test says; no past jobs."""

    def __init__(self, queue: QueueState, *ranks: int | None) -> None:
        self.queue, self.given = queue, list(ranks)
        self.looked = 0

    async def queues(self, types: list[str]) -> dict[str, QueueState]:
        return dict.fromkeys(types, self.queue)

    async def ranks(self, jobs: list[tuple[str, str]]) -> list[int | None]:
        return self.given[: len(jobs)]

    async def owned(self, owner: str, count: int) -> list[tuple[str, int]]:
        self.looked += 1
        return []

    async def fields_of_many(self, asked: list[Any]) -> list[Any]:
        return []


def _queue(waiting: int, running: int, owners: int) -> QueueState:
    return QueueState("x", waiting, running, 0, 0, 0.0, owners)


@pytest.mark.parametrize(
    ("queue", "rank", "seconds"),
    [
        (_queue(1, 0, 1), 0, 10),
        (_queue(5, 0, 1), 4, 50),
        (_queue(5, 2, 1), 4, 30),
        (_queue(100, 1, 2), 0, 20),  # one of the other's goes first
        (_queue(100, 1, 2), 4, 100),
        (_queue(3, 1, 2), 1, 30),  # there is but one other
        (_queue(0, 4, 0), 0, 10),  # claimed meanwhile
    ],
)
async def test_owners_take_turns(queue: QueueState, rank: int, seconds: float) -> None:
    estimates = Estimates(cast("Any", Store(queue, rank, None)))
    estimates.learn("x", "10.0")
    job = ("x:" + "0" * 32, "ann")
    assert await estimates.of_waiting([job, job]) == [Estimate(rank + 1, seconds), None]


async def test_where_nothing_is_known_nothing_is_said_and_the_past_is_not_asked_all_the_time() -> None:
    store = Store(_queue(1, 0, 1), 0)
    estimates = Estimates(cast("Any", store))
    for _ in range(5):
        assert await estimates.of_waiting([("x:" + "0" * 32, "ann")]) == [Estimate(1, None)]
    assert store.looked == 1
    assert estimates.left("x", 50) is None


def test_the_last_jobs_count_most() -> None:
    estimates = Estimates(cast("Any", None))
    for text in ("10", "nonsense", None, "1,2", "20"):
        estimates.learn("x", text)
    assert estimates.left("x", 0) == pytest.approx(12)
    assert estimates.left("x", 75) == pytest.approx(3)
    assert estimates.left("x", 100) == 0


@pytest.mark.parametrize("told", ["nan", "inf", "-1", "", "soon", None])
def test_what_is_no_time_teaches_nothing(told: str | None) -> None:
    estimates = Estimates(cast("Any", Store(_queue(1, 0, 1))))
    estimates.learn("x", "10")
    estimates.learn("x", told)
    assert estimates.left("x", 50) == 5
