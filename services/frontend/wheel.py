"""Things that are each due once in a period, spread evenly over it: no timer for each, and no burst at its end."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Wheel(Generic[T]):
    """Slots that come due one after the other; what is added goes into the next slot in turn."""

    def __init__(self, period: float, slots: int = 64) -> None:
        """Turn once in a period (s)."""
        self.step = period / slots
        """s from one slot to the next."""
        self._slots: list[set[T]] = [set() for _ in range(slots)]
        self._due = 0
        self._filling = 0
        self._at = 0.0

    def add(self, item: T) -> set[T]:
        """Add a thing; return its slot, of which it is taken away by `set.discard`."""
        slot = self._slots[self._filling]
        self._filling = (self._filling + 1) % len(self._slots)
        slot.add(item)
        return slot

    def wait(self, now: float) -> float:
        """Return the s until the next slot is due; 0 where it is."""
        return max(0.0, self._at - now)

    def due(self, now: float) -> list[T]:
        """Return what is in the next slot, if that is due; who comes late is given slot after slot at once."""
        if now < self._at:
            return []
        # After a rest of a whole turn there is nothing to catch up with.
        late = now - self._at > self.step * len(self._slots)
        self._at = (now if late else self._at) + self.step
        self._due = (self._due + 1) % len(self._slots)
        return list(self._slots[self._due])
