"""How the commands print."""

from __future__ import annotations

import pytest

from services.console import output


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, "-"),
        (0.85, "850 ms"),
        (12.34, "12.3 s"),
        (250, "4 min 10 s"),
        (11_100, "3 h 05 min"),
        (90 * 86_400 - 1, "90 d 00 h"),
        (80 * 3600, "3 d 08 h"),
    ],
)
def test_a_time_is_told_as_people_say_it(seconds: float | None, told: str) -> None:
    assert output.duration(seconds) == told
