"""The stage clock."""

from __future__ import annotations

import pytest

from services.consumer import clock as module
from services.consumer.clock import STAGES, StageClock


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: time[0])
    return time


def test_parts_of_a_stage_that_overlap_count_once(now: list[float]) -> None:
    clock = StageClock()
    with clock.stage("prediction"):
        now[0] += 1
        with clock.stage("prediction"), clock.stage("postprocess"):
            now[0] += 2
        now[0] += 4
    assert clock.spent() == dict.fromkeys(STAGES, 0.0) | {"prediction": 7.0, "postprocess": 2.0}
    assert clock.total == 7.0


def test_a_stage_that_fails_is_counted_and_told(now: list[float]) -> None:
    clock = StageClock()

    def fail() -> None:
        with clock.stage("upload"):
            now[0] += 0.5
            raise OSError

    with pytest.raises(OSError):
        fail()
    assert clock.facts()["upload_time"] == "0.500000"
    assert set(clock.facts()) == {f"{stage}_time" for stage in STAGES}
