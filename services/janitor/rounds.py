"""What all keepers share: rounds that begin at an event or a deadline and outlive every trouble."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator

import structlog

from services.janitor import metrics
from shared.errors import KioskError
from shared.jobs import Watch

log = structlog.get_logger(__name__)

#: Seconds: the first and the longest pause after trouble.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0

#: What ends a round, or a piece of it, and never the keeper.
_TROUBLE = (KioskError, OSError)
#: Pieces in a row that fail: then it is the storage that is away, and no single object that cannot be deleted.
_MOST_IN_A_ROW = 10

#: A round's work; returns seconds until it is due again, None if nothing is known to come.
Round = Callable[[], Awaitable[float | None]]


async def keep(keeper: str, work: Round, watch: Watch, longest: float) -> None:
    """Do rounds for ever: at each event, when the last round said, and at least every ``longest`` seconds.

    Trouble with Redis or storage, a bucket's refusal too, ends a round, never the keeper: the next comes after a
    growing, jittered pause.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            with metrics.round_seconds.labels(keeper).time():
                due = await work()
        except _TROUBLE as error:
            metrics.troubles.labels(keeper).inc()
            log.warning("round-cut-short", keeper=keeper, error=str(error), again_in=round(pause, 2))
            wait, pause = pause * random.uniform(0.5, 1.5), min(2 * pause, _LONGEST_PAUSE)
        else:
            wait, pause = longest if due is None else min(due, longest), _FIRST_PAUSE
        await watch.wait(wait)


class Troubles:
    """What could not be done in a round: one object that cannot be deleted keeps no other alive."""

    def __init__(self) -> None:
        """Begin a round."""
        self._last: Exception | None = None
        self._in_a_row = 0

    @contextlib.contextmanager
    def passed_over(self, what: str) -> Iterator[None]:
        """Do a piece of the round; trouble with it is logged, and ends the round only if the last ones had it too."""
        try:
            yield
        except _TROUBLE as error:
            log.warning("not-deleted", what=what, error=str(error))
            self._last = error
            self._in_a_row += 1
            if self._in_a_row == _MOST_IN_A_ROW:
                raise
        else:
            self._in_a_row = 0

    def tell(self) -> None:
        """Raise the last trouble, at the end of the round, if there was any."""
        if self._last is not None:
            raise self._last
