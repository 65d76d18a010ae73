"""A budget of bytes that several share: what does not fit yet, waits in its order."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable


class MemoryBudget:
    """Bytes for arrays. A wish larger than the whole budget gets all of it, alone.

    Args:
        total: bytes.
        tell: is told the bytes that are reserved, whenever they change.
    """

    def __init__(self, total: int, tell: Callable[[int], None] | None = None) -> None:
        self._total = total
        self._free = total
        self._tell = tell
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @contextlib.asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        """Hold ``size`` bytes of the budget for the time of the context."""
        size = min(max(0, size), self._total)
        await self._take(size)
        try:
            yield
        finally:
            self._give(size)

    async def _take(self, size: int) -> None:
        if not self._waiting and size <= self._free:
            self._account(-size)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give(size)
            else:
                # Gone from the line: whoever stood behind may fit now.
                self._waiting = deque(entry for entry in self._waiting if entry[1] is not turn)
                self._serve()
            raise

    def _give(self, size: int) -> None:
        self._account(size)
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._account(-size)
                turn.set_result(None)

    def _account(self, change: int) -> None:
        self._free += change
        if self._tell is not None:
            self._tell(self._total - self._free)
