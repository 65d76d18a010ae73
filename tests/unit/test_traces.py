"""Which traces are kept, and what those that are not still have."""

from __future__ import annotations

import pytest

from shared.settings import TelemetrySettings
from shared.telemetry import configure_traces, context_of, current_traceparent, span, trace_id, traces
from shared.telemetry.traces import Keeping

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def _nothing_exported() -> None:
    configure_traces(TelemetrySettings(), "test", "0", "test")


def test_a_trace_that_is_not_kept_has_an_id_for_logs_and_jobs() -> None:
    assert (trace_id(), current_traceparent()) == ("", "")
    with span("request"):
        own, told = trace_id(), current_traceparent()
        with span("part"):
            assert trace_id() == own
    assert told.split("-")[::3] == ["00", "00"]
    assert told.split("-")[1] == own
    assert trace_id() == ""


def test_a_callers_trace_goes_on_through_a_process_that_exports_nothing() -> None:
    with span("request", context_of({"traceparent": CALLER})):
        assert current_traceparent() == CALLER
    with span("request", context_of({"traceparent": "nonsense"})):
        assert trace_id() not in {"", CALLER.split("-")[1]}


def test_at_most_so_many_traces_a_second_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(traces.time, "monotonic", lambda: now)
    keep = Keeping(ratio=1.0, rate=10)
    assert sum(keep() for _ in range(100)) == 10
    now += 0.5
    assert sum(keep() for _ in range(100)) == 5
    now += 3600
    assert sum(keep() for _ in range(100)) == 10


@pytest.mark.parametrize(("ratio", "rate"), [(0.0, 1000.0), (1.0, 0.0)])
def test_none_are_kept(ratio: float, rate: float) -> None:
    keep = Keeping(ratio, rate)
    kept = sum(keep() for _ in range(100))
    assert kept == 0
