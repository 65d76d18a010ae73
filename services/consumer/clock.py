"""How long the stages of a job took."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

#: The stages in the order in which they are told, and the states that stand for them.
STAGES = ("download", "preprocess", "prediction", "postprocess", "upload")


class StageClock:
    """Seconds in which at least one thing of a stage was under way; parts that overlap count once."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._spent = dict.fromkeys(STAGES, 0.0)
        self._open: dict[str, tuple[int, float]] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the context towards a stage."""
        number, since = self._open.get(name, (0, time.monotonic()))
        self._open[name] = (number + 1, since)
        try:
            yield
        finally:
            number, since = self._open.pop(name)
            if number > 1:
                self._open[name] = (number - 1, since)
            else:
                self._spent[name] += time.monotonic() - since

    @property
    def total(self) -> float:
        """Seconds since the attempt began."""
        return time.monotonic() - self._began

    def spent(self) -> dict[str, float]:
        """Return the seconds of each stage so far."""
        return dict(self._spent)

    def facts(self) -> dict[str, str]:
        """Return the times as the facts of a job: ``download_time`` and so on, in seconds."""
        return {f"{stage}_time": f"{seconds:.6f}" for stage, seconds in self._spent.items()}
