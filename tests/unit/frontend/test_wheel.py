"""The wheel: everything once in a period, a little at a time."""

from __future__ import annotations

from collections import Counter

from services.frontend.wheel import Wheel


def test_everything_is_due_once_in_a_period_and_evenly_spread() -> None:
    wheel: Wheel[int] = Wheel(period=8.0, slots=8)
    for number in range(80):
        wheel.add(number)
    wheel.due(1000.0)
    rounds = [wheel.due(1000.0 + second) for second in range(1, 17)]
    assert {len(items) for items in rounds} == {10}
    assert Counter(item for items in rounds for item in items) == dict.fromkeys(range(80), 2)


def test_nothing_is_due_before_its_time_and_who_comes_late_catches_up() -> None:
    wheel: Wheel[str] = Wheel(period=8.0, slots=8)
    for name in "abcdefgh":
        wheel.add(name)
    wheel.due(1000.0)
    assert wheel.due(1000.5) == []
    assert wheel.wait(1000.25) == 0.75
    found = [*wheel.due(1003.0), *wheel.due(1003.0), *wheel.due(1003.0), *wheel.due(1003.0)]
    assert len(found) == 3


def test_what_was_taken_away_is_not_due() -> None:
    wheel: Wheel[str] = Wheel(period=1.0, slots=4)
    slot = wheel.add("gone")
    wheel.add("stays")
    slot.discard("gone")
    assert [item for turn in range(8) for item in wheel.due(1000.0 + turn)] == ["stays"] * 2
