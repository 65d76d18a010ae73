"""What a scaler has to offer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from services.autoscaler.decide import Decision, Fleet
from services.autoscaler.targets import Target


class Scaler(Protocol):
    """Sees and changes the replicas of targets. All methods raise `Retry` when that cannot be done now."""

    async def run(self, changed: Callable[[], None]) -> None:
        """Keep watch until cancelled; call ``changed`` whenever there may be something new to see."""

    async def acting(self) -> bool:
        """Tell whether this process is the one that acts; others only watch. Raises `Retry` where none can."""

    async def observe(self, target: Target) -> Fleet:
        """Return the replicas of a target."""

    async def busy(self, target: Target, fleet: Fleet) -> frozenset[str]:
        """Return members that are known to be busy apart from the jobs they hold."""

    async def scale(self, target: Target, replicas: int, going: Sequence[str]) -> None:
        """Make it so many replicas; ``going`` are those to be removed: they hold nothing and claim nothing."""

    async def keep(self, target: Target, names: Sequence[str]) -> None:
        """Take back what marked these as going: they are to stay after all."""

    async def explain(self, target: Target, decision: Decision) -> None:
        """Tell people of a decision where they look for it; never raises."""

    async def check(self) -> None:
        """Raise `Retry` while this scaler cannot do its work: for readiness."""

    async def aclose(self, grace: float) -> None:
        """Let go of everything, within ``grace`` seconds."""
