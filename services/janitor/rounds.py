"""What all keepers share: rounds that begin at an event or a deadline and outlive every trouble."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import structlog

from services.janitor import metrics
from shared.errors import Retry
from shared.jobs import Watch

log = structlog.get_logger(__name__)

#: Seconds: the first and the longest pause after trouble.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0

#: A round's work; returns seconds until it is due again, None if nothing is known to come.
Round = Callable[[], Awaitable[float | None]]


async def keep(keeper: str, work: Round, watch: Watch, longest: float) -> None:
    """Do rounds for ever: at each event, when the last round said, and at least every ``longest`` seconds.

    Trouble with Redis or storage ends a round, never the keeper: the next comes after a growing, jittered pause.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            with metrics.round_seconds.labels(keeper).time():
                due = await work()
        except (Retry, OSError) as error:
            metrics.troubles.labels(keeper).inc()
            log.warning("round-cut-short", keeper=keeper, error=str(error), again_in=round(pause, 2))
            wait, pause = pause * random.uniform(0.5, 1.5), min(2 * pause, _LONGEST_PAUSE)
        else:
            wait, pause = longest if due is None else min(due, longest), _FIRST_PAUSE
        await watch.wait(wait)
