"""Metrics counted without a lock tell the very same as prometheus_client's own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from shared.telemetry.counting import LoopCounter, LoopHistogram

BUCKETS = (0.1, 1, 10)


def told(counter: type[Counter], histogram: type[Histogram]) -> list[str]:
    """Count the same with metrics of some kind; return what a scrape gets, but for the times of their making."""
    registry = CollectorRegistry()
    counted = counter("kiosk_some_total", "Some.", ["kind"], registry=registry).labels("a")
    counted.inc()
    counted.inc(2.5)
    seen = histogram("kiosk_some_seconds", "Some.", ["kind"], buckets=BUCKETS, registry=registry).labels("a")
    for seconds in (0, 0.1, 0.1001, 1, 9.9, 10, 10.5, 1e9):
        seen.observe(seconds)
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_a_scrape_gets_the_same() -> None:
    assert told(LoopCounter, LoopHistogram) == told(Counter, Histogram)
    assert 'kiosk_some_total{kind="a"} 3.5' in told(LoopCounter, LoopHistogram)
