"""What uses are worth, and that all jobs and the idle time together are the bill."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.console.cost.nodes import Node, bill
from services.consumer.inference.sharing import SharedTime
from shared.costs import CostSettings, Use, load, rates, total
from shared.errors import InvalidInput, Misconfigured

MACHINES = CostSettings(gpu_machine="n1-highmem-2,nvidia-tesla-t4", cpu_machine="n1-standard-4")
Interval = tuple[float, float]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def shares(requests: list[Interval]) -> list[float]:
    """Return each request's part of the time of one server, as the consumer measures it."""
    clock, parts = Clock(), [0.0] * len(requests)
    time = SharedTime(clock)
    under_way = {}
    turns = sorted((at, end, n) for n, request in enumerate(requests) for end, at in enumerate(request))
    for clock.now, end, n in turns:
        if not end:
            under_way[n] = time.request(lambda part, n=n: parts.__setitem__(n, part))  # type: ignore[misc]
            under_way[n].__enter__()
        else:
            under_way.pop(n).__exit__(None, None, None)
    return parts


def busy(requests: list[Interval]) -> float:
    """Return the time in which at least one request was under way, by another way than the consumer's."""
    spent, until = 0.0, 0.0
    for begin, end in sorted(requests):
        spent += max(0.0, end - max(begin, until))
        until = max(until, end)
    return spent


intervals = st.tuples(st.floats(0, 100), st.floats(0, 100)).map(lambda pair: (min(pair), max(pair)))


@given(st.lists(intervals, max_size=12))
def test_the_parts_of_all_requests_are_the_busy_time(requests: list[Interval]) -> None:
    parts = shares(requests)
    assert sum(parts) == pytest.approx(busy(requests), abs=1e-6)
    assert all(-1e-9 <= part <= end - begin + 1e-9 for part, (begin, end) in zip(parts, requests, strict=True))


def test_two_requests_at_once_have_half_of_it_each() -> None:
    assert shares([(0, 10), (4, 8)]) == [8, 2]


def test_all_jobs_and_idle_are_the_bill() -> None:
    """Two GPU nodes and three CPU nodes for two hours; 300 jobs whose requests overlap; 2 % is allowed."""
    hours, chance = 7200.0, random.Random(1)
    nodes = [Node(f"gpu-{n}", "n1-highmem-2", "nvidia-tesla-t4", 1, spot=False, begin=0, end=hours) for n in range(2)]
    nodes += [Node(f"cpu-{n}", "n1-standard-4", "", 0, spot=False, begin=0, end=hours, cpus=4) for n in range(3)]
    per_server = [[(at := chance.uniform(0, hours - 90), at + chance.uniform(1, 90)) for _ in range(150)] for _ in "ab"]
    uses = [
        Use(part, cpu_seconds=chance.uniform(0, 200), bytes_in=chance.randrange(10**8), bytes_out=10**6)
        for requests in per_server
        for part in shares(requests)
    ]
    worth = rates(MACHINES)
    assert worth is not None
    jobs = sum(worth.total(use) for use in uses)
    idle = worth.gpu_second * sum(hours - busy(requests) for requests in per_server)
    idle += worth.cpu_second * (3 * 4 * hours - sum(use.cpu_seconds for use in uses))
    paid = bill(nodes, load(), sent_bytes=sum(use.bytes_in + use.bytes_out for use in uses))
    assert jobs > 0.3 * paid.total
    assert jobs + idle == pytest.approx(paid.total, rel=0.02)


def test_a_second_is_worth_its_part_of_the_machines_hour() -> None:
    worth = rates(MACHINES.model_copy(update={"spot": True}))
    assert worth is not None
    assert worth.gpu(Use(gpu_seconds=3600)) == pytest.approx(0.0250 + 0.29)
    assert worth.cpu(Use(cpu_seconds=4 * 3600)) == pytest.approx(0.0400)
    assert worth.network(Use(bytes_in=1.5e9, bytes_out=0.5e9)) == pytest.approx(0.02)


def test_without_machines_nothing_is_worth_anything() -> None:
    assert rates(CostSettings()) is None


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"gpu_machine": "e9-huge-1"}, "no price for the machine 'e9-huge-1'"),
        ({"gpu_machine": "n1-highmem-2,abacus"}, "no price for the gpu 'abacus'"),
        ({"cpu_machine": ""}, "name both or neither"),
        ({"prices": "1066-10"}, "no price list '1066-10'"),
    ],
)
def test_what_has_no_price_is_named(settings: dict[str, str], says: str) -> None:
    with pytest.raises(Misconfigured, match=says):
        rates(CostSettings(**(MACHINES.model_dump() | settings)))


def test_processors_are_told_where_the_name_does_not(tmp_path: Path) -> None:
    rows = "kind,type,on_demand,spot\nmachine,little,3.6,1\nnetwork,zone,1,1\n"
    (tmp_path / "mine.csv").write_text(f"# date: 2031-02-03\n{rows}")
    mine = {"prices": str(tmp_path / "mine.csv"), "gpu_machine": "little", "cpu_machine": "little"}
    with pytest.raises(Misconfigured, match="say it by KIOSK_COST__CPUS"):
        rates(CostSettings.model_validate(mine))
    worth = rates(CostSettings.model_validate(mine | {"cpus": 2}))
    assert worth is not None
    assert (worth.cpu_second, worth.gpu_second) == (pytest.approx(0.0005), pytest.approx(0.001))


def test_old_prices_are_called_old(tmp_path: Path) -> None:
    assert "of June 2019, and no longer what is paid" in load().warning(dt.date(2026, 1, 1))
    assert load().warning(dt.date(2019, 12, 1)) == ""
    (tmp_path / "mine.csv").write_text("kind,type,on_demand,spot\nmachine,m1,2,1\n")
    assert "of no known date" in load(str(tmp_path / "mine.csv")).warning()
    (tmp_path / "mine.csv").write_text("# date: yesterday\nkind,type,on_demand,spot\n")
    with pytest.raises(InvalidInput, match="wrong date"):
        load(str(tmp_path / "mine.csv"))


def test_uses_are_told_as_they_are_read() -> None:
    use = Use(1.5, 0.25, 1e6, 17)
    assert Use.of(use.facts()) == use
    assert Use.of({"status": "new"}) is None
    assert Use.of({"gpu_seconds": "much"}) is None
    assert total([use, None, use]) == Use(3.0, 0.5, 2e6, 34)
    assert total([]) == Use()


@pytest.mark.parametrize("told", ["nan", "inf", "soon"])
def test_what_is_no_number_tells_nothing(told: str) -> None:
    assert Use.of({"gpu_seconds": "1", "cpu_seconds": told}) is None
