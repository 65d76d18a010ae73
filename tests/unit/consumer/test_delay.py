"""When a failed attempt is made again."""

from __future__ import annotations

import pytest

from services.consumer.worker import delay_after


@pytest.mark.parametrize(("losses", "seconds"), [(0, 2), (1, 4), (3, 16), (10, 300), (100, 300)])
def test_each_loss_doubles_the_delay_up_to_some_minutes(losses: int, seconds: float) -> None:
    assert delay_after(losses) == seconds
