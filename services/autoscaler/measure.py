"""How long a replica works on an ordinary job, measured from what the workers tell of themselves."""

from __future__ import annotations

from collections.abc import Sequence

from shared.jobs import WorkerState

#: Weight of the newest measurement against all before: one look in five counts half.
_SHARE = 0.13


class ServiceMeter:
    """Replica-seconds of one job: the time that workers were busy, divided by the jobs they ended meanwhile.

    Workers tell in their heartbeat how many jobs they have ended (``ended``). A worker counts as busy between two
    looks while it holds something at the second.
    """

    def __init__(self) -> None:
        """Start without knowledge."""
        self.seconds: float | None = None
        self._seen: dict[str, int] = {}
        self._at: float | None = None

    def look(self, at: float, workers: Sequence[WorkerState]) -> None:
        """Take in the workers of the target at a time (s)."""
        ended = {worker.id: int(worker.facts["ended"]) for worker in workers if worker.facts.get("ended", "").isdigit()}
        if self._at is not None and at > self._at:
            busy = sum(1 for worker in workers if worker.held and worker.id in self._seen)
            done = sum(max(0, count - self._seen[name]) for name, count in ended.items() if name in self._seen)
            if busy and done:
                newest = busy * (at - self._at) / done
                self.seconds = newest if self.seconds is None else self.seconds + _SHARE * (newest - self.seconds)
        self._at, self._seen = at, ended
