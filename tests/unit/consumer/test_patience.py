"""How long a call waits for model servers: while they answer others, and while they answer nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from services.consumer.inference import triton
from services.consumer.inference.replicas import Replica
from services.consumer.inference.triton import MOST_PATIENCE, TritonServer
from shared.errors import Retry

PATIENCE = 60.0
STEP = 1.0


class Clock:
    """The loop's own clock, and what a test says has passed beside it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.passed = 0.0
        loop.time = lambda: time.monotonic() + self.passed  # type: ignore[method-assign]


@pytest.fixture
async def clock() -> Clock:
    return Clock(asyncio.get_running_loop())


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TritonServer]:
    monkeypatch.setattr(triton, "LONGEST_PAUSE", 0.001)

    async def one(host: str, port: int) -> list[tuple[str, int]]:
        return [(host, port)]

    server = TritonServer([("127.0.0.1", 1)], one)
    yield server
    await server.aclose()


async def ask(server: TritonServer, clock: Clock, *, calls: list[float], answers_at: float, busy: bool) -> float:
    """Call a server that gives no answer before a time and, if it is busy, answers others meanwhile."""

    async def other(_replica: Replica, _longest: float) -> None:
        return None

    async def slow(_replica: Replica, _longest: float) -> float:
        calls.append(clock.passed)
        while clock.passed < answers_at:
            clock.passed += STEP
            if busy:
                await server._try(other, "m", "", timeout=PATIENCE)
            await asyncio.sleep(0)
        return clock.passed

    return await server._try(slow, "m", "", timeout=PATIENCE)


async def test_a_busy_server_is_waited_for_by_one_call(server: TritonServer, clock: Clock) -> None:
    calls: list[float] = []
    assert await ask(server, clock, calls=calls, answers_at=5 * PATIENCE, busy=True) >= 5 * PATIENCE
    assert calls == [0.0], "a call that was given up has its work done in vain, and is made once more"


async def test_but_not_for_ever(server: TritonServer, clock: Clock) -> None:
    with pytest.raises(Retry, match="gave no result"):
        await ask(server, clock, calls=[], answers_at=float("inf"), busy=True)
    assert clock.passed < (MOST_PATIENCE + 2) * PATIENCE


async def test_a_server_that_answers_nobody_is_given_up_after_the_patience(server: TritonServer, clock: Clock) -> None:
    calls: list[float] = []
    with pytest.raises(Retry, match="gave no result"):
        await ask(server, clock, calls=calls, answers_at=float("inf"), busy=False)
    assert PATIENCE <= clock.passed <= 2 * PATIENCE
    assert calls[1] - calls[0] < clock.passed - calls[1], "who gave up too early must wait longer the next time"
