"""The decision, as properties that hold for whatever is seen, and as examples of each rule."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.autoscaler.decide import (
    DAY,
    Decision,
    Fleet,
    Hands,
    Load,
    Member,
    Memory,
    Observation,
    budget_hours,
    decide,
    forecast,
)
from services.autoscaler.targets import Budget, Floor, Target

START = 1_700_000_000.0


def fleet_of(replicas: int, *, pods: int | None = None, ordinals: bool = False) -> Fleet:
    count = replicas if pods is None else pods
    return Fleet(replicas, tuple(Member(f"w-{i}", ordinal=i if ordinals else None) for i in range(count)))


def see(at: float, waiting: float, running: float, fleet: Fleet, busy: Sequence[str] = ()) -> Observation:
    return Observation(at, Load(waiting, running), fleet, Hands(frozenset(busy)))


class World:
    """Carries decisions out at once, with a clock of its own."""

    def __init__(self, target: Target, replicas: int = 0) -> None:
        self.target, self.at, self.replicas, self.memory = target, START, replicas, Memory()
        self.history: list[tuple[float, int]] = []
        self.last: Decision | None = None

    def step(self, seconds: float, work: float, busy: int = 0) -> Decision:
        self.at += seconds
        fleet = fleet_of(self.replicas)
        names = [member.name for member in fleet.members[:busy]]
        self.last = decide(self.target, see(self.at, work, 0, fleet, names), self.memory)
        self.memory = self.last.memory
        assert self.last.replicas is not None
        if self.last.replicas != self.replicas:
            self.history.append((self.at, self.last.replicas - self.replicas))
        self.replicas = self.last.replicas
        return self.last


targets = st.builds(
    lambda low, more, each, step_up, step_down, cooldown, window, spares: Target(
        name="t",
        min_replicas=low,
        max_replicas=low + more,
        jobs_per_replica=each,
        max_step_up=step_up,
        max_step_down=step_down,
        cooldown=cooldown,
        stabilisation_window=window,
        warm_spares=spares,
    ),
    st.integers(0, 3),
    st.integers(0, 30),
    st.floats(0.25, 64),
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(0, 300),
    st.floats(0, 300),
    st.integers(0, 3),
)
works = st.floats(0, 5000)
memories = st.builds(
    lambda ago, need, up: Memory(needs=((START - ago, need),), last_up=START - up),
    st.floats(0, 600),
    st.integers(0, 40),
    st.floats(0, 600),
)


@given(targets, works, works, st.integers(0, 40), memories)
def test_more_work_never_means_fewer_replicas(t: Target, less: float, more: float, actual: int, memory: Memory) -> None:
    less, more = sorted((less, more))
    decisions = [decide(t, see(START, work, 0, fleet_of(actual)), memory) for work in (less, more)]
    few, many = (decision.replicas for decision in decisions)
    assert few is not None
    assert many is not None
    assert few <= many


@given(targets, works, st.integers(0, 40), st.sets(st.integers(0, 39)), memories, st.integers(0, 3), st.booleans())
def test_bounds_and_busy_replicas_are_respected(
    t: Target, work: float, actual: int, busy: set[int], memory: Memory, gone: int, ordinals: bool
) -> None:
    fleet = fleet_of(actual, pods=max(0, actual - gone), ordinals=ordinals)
    names = {f"w-{i}" for i in busy}
    decision = decide(t, see(START, work, 0, fleet, sorted(names)), memory)
    assert decision.replicas is not None
    idle = [member for member in fleet.members if member.name not in names]
    missing = actual - len(fleet.members)
    assert decision.replicas <= max(t.max_replicas, actual)
    assert decision.replicas >= min(t.min_replicas, actual)
    assert decision.replicas >= actual - len(idle) - missing, "more go than are idle"
    assert not names & set(decision.retire)
    assert len(decision.retire) <= max(0, actual - decision.replicas)
    assert actual - t.max_step_down <= decision.replicas <= actual + t.max_step_up
    if ordinals and decision.retire:
        highest = [f"w-{i}" for i in range(len(fleet.members) - 1, -1, -1)]
        assert list(decision.retire) == highest[: len(decision.retire)]


@given(targets, works, st.integers(0, 40))
@settings(max_examples=50)
def test_constant_work_ends_in_rest(t: Target, work: float, actual: int) -> None:
    world = World(t, actual)
    for _ in range(120):
        world.step(30.0, work)
    settled = len(world.history)
    for _ in range(20):
        world.step(30.0, work)
    assert len(world.history) == settled, "it oscillates on constant work"
    directions = {math.copysign(1, change) for _at, change in world.history}
    assert len(directions) <= 1, "it overshot"


@given(st.lists(st.tuples(st.floats(0.05, 60), st.floats(0, 200)), min_size=5, max_size=120), st.floats(1, 120))
@settings(max_examples=50)
def test_noise_turns_the_direction_at_most_once_a_cooldown(noise: list[tuple[float, float]], cooldown: float) -> None:
    target = Target(name="t", max_replicas=50, jobs_per_replica=4, cooldown=cooldown, stabilisation_window=0)
    world = World(target)
    for seconds, work in noise:
        world.step(seconds, work)
    changes = [change for _at, change in world.history]
    turns = sum(1 for before, after in itertools.pairwise(changes) if before > 0 > after)
    assert turns <= 1 + (world.at - START) / cooldown
    for (at, change), (later, after) in itertools.pairwise(world.history):
        assert not (change > 0 > after) or later - at >= cooldown - 1e-6


@given(st.lists(st.tuples(st.floats(0.1, 40), st.integers(0, 20)), min_size=1, max_size=80), st.floats(1, 100))
@settings(max_examples=50)
def test_the_memory_holds_the_highest_need_of_the_window(steps: list[tuple[float, int]], window: float) -> None:
    """Compared with the plain definition: the maximum over all of the window, with the need holding until the next."""
    target = Target(name="t", max_replicas=20, jobs_per_replica=1, cooldown=0, stabilisation_window=window)
    world = World(target)
    told: list[tuple[float, int]] = []
    for seconds, work in steps:
        decision = world.step(seconds, work)
        told.append((world.at, work))
        ends = [at for at, _work in told[1:]] + [world.at + 1]
        within = [work for (_at, work), end in zip(told, ends, strict=True) if end > world.at - window]
        assert decision.replicas == max(within)


@given(targets, works, st.integers(0, 40), memories)
def test_what_cannot_be_read_is_not_acted_upon(t: Target, work: float, actual: int, memory: Memory) -> None:
    whole = see(START, work, 0, fleet_of(actual))
    for blind in (dataclasses.replace(whole, load=None), dataclasses.replace(whole, fleet=None)):
        decision = decide(t, dataclasses.replace(blind, unreadable="Redis is away."), memory)
        assert decision.code == "hold"
        assert not decision.changes
        assert "Redis is away" in decision.reason


TARGET = Target(name="t", max_replicas=10, jobs_per_replica=4, cooldown=60, stabilisation_window=60)


def test_up_is_at_once_and_in_proportion() -> None:
    world = World(TARGET)
    decision = world.step(1, 9)
    assert (decision.code, decision.replicas, decision.wanted) == ("up", 3, 3)
    assert decision.reason == "9 waiting and 0 running need 3 (4 jobs each): 0 → 3."
    assert world.step(0.01, 100).replicas == 10
    assert world.step(0.01, 100).code == "at-max"


def test_running_work_counts() -> None:
    assert decide(TARGET, see(START, 0, 5, fleet_of(0)), Memory()).replicas == 2


def test_down_waits_for_the_cooldown_and_then_says_why() -> None:
    world = World(TARGET)
    world.step(1, 40)
    decision = world.step(10, 0)
    assert (decision.code, decision.replicas) == ("cooling", 10)
    assert decision.again_in == pytest.approx(60)
    world.step(30, 0)
    decision = world.step(30.1, 0)
    assert (decision.code, decision.replicas, len(decision.retire)) == ("down", 0, 10)


def test_a_short_dip_in_a_window_removes_nobody() -> None:
    world = World(TARGET)
    for _ in range(20):
        assert world.step(10, 40).replicas == 10
        assert world.step(10, 0).replicas == 10


def test_after_a_start_nobody_goes_before_the_past_is_known() -> None:
    world = World(TARGET, replicas=5)
    assert world.step(1, 0).code == "cooling"
    assert world.step(59, 0).code == "cooling"
    assert world.step(2, 0).code == "down"


def test_only_idle_ones_go_and_busy_ones_are_waited_for() -> None:
    world = World(TARGET, replicas=3)
    world.step(1, 4)
    decision = world.step(100, 4, busy=2)
    assert (decision.replicas, decision.retire) == (2, ("w-2",))
    decision = world.step(100, 4, busy=2)
    assert (decision.code, decision.replicas) == ("busy", 2)
    assert "hold work" in decision.reason


def test_hands_are_asked_for_only_where_somebody_may_go() -> None:
    blind = dataclasses.replace(see(START, 40, 0, fleet_of(2)), hands=None)
    assert not decide(TARGET, blind, Memory()).needs_hands
    idle = dataclasses.replace(see(START, 0, 0, fleet_of(2)), hands=None)
    old = Memory(needs=((START - 100, 0),), last_up=START - 1000)
    assert decide(TARGET, idle, old).needs_hands


def test_while_a_removal_is_under_way_no_other_begins() -> None:
    old = Memory(needs=((START - 100, 0),), last_up=START - 1000)
    decision = decide(TARGET, see(START, 0, 0, fleet_of(2, pods=3)), old)
    assert not decision.changes
    assert "under way" in decision.reason


def test_workers_marked_by_a_removal_that_failed_work_again() -> None:
    seen = see(START, 8, 0, fleet_of(2))
    seen = dataclasses.replace(seen, hands=Hands(frozenset(), frozenset({"w-1", "someone-elses"})))
    assert decide(TARGET, seen, Memory()).unretire == ("w-1",)


def test_steps_are_limited_in_both_directions() -> None:
    target = TARGET.model_copy(update={"max_step_up": 2, "max_step_down": 3, "step_period": 15.0})
    world = World(target)
    sizes = [world.step(5, 40).replicas for _ in range(9)]
    assert sizes == [2, 2, 2, 4, 4, 4, 6, 6, 6]
    assert world.last is not None
    assert "no more than 2 are added in 15 s" in world.last.reason
    world.step(1, 0)
    sizes = [world.step(60 if i == 0 else 8, 0).replicas for i in range(4)]
    assert sizes == [3, 3, 0, 0]


def test_a_wanted_wait_uses_the_measured_time() -> None:
    target = Target(name="t", max_replicas=100, max_wait=30, service_seconds=2)
    seen = see(START, 300, 0, fleet_of(0))
    assert decide(target, seen, Memory()).replicas == 20
    assert decide(target, dataclasses.replace(seen, service_seconds=0.5), Memory()).replicas == 5
    assert decide(target, see(START, 1, 0, fleet_of(0)), Memory()).replicas == 1
    slow = target.model_copy(update={"start_seconds": 20.0})
    assert decide(slow, seen, Memory()).replicas == 60, "ten of the thirty seconds are left for the work"


def test_warm_spares_are_beyond_the_need() -> None:
    target = TARGET.model_copy(update={"warm_spares": 2})
    assert decide(target, see(START, 0, 0, fleet_of(0)), Memory()).replicas == 2
    assert decide(target, see(START, 8, 0, fleet_of(0)), Memory()).replicas == 4


def at(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


def test_working_hours_have_a_floor() -> None:
    floor = Floor(begin=dt.time(8), end=dt.time(18), min_replicas=2, timezone="Europe/Zurich")
    target = TARGET.model_copy(update={"schedule": (floor,)})
    # 3 June 2024 is a Monday; Zurich is two hours ahead of UTC then, one hour in winter.
    for moment, least in (
        ("2024-06-03T05:59+00:00", 0),
        ("2024-06-03T06:00+00:00", 2),
        ("2024-06-03T15:59+00:00", 2),
        ("2024-06-03T16:00+00:00", 0),
        ("2024-06-02T10:00+00:00", 0),
        ("2024-12-02T06:30+00:00", 0),
        ("2024-12-02T07:00+00:00", 2),
    ):
        assert target.floor(at(moment)) == least, moment
        assert decide(target, see(at(moment), 0, 0, fleet_of(0)), Memory()).replicas == least


def test_a_floor_may_reach_over_midnight() -> None:
    floor = Floor(days=("fri",), begin=dt.time(22), end=dt.time(6), min_replicas=1)
    held = [floor.holds(at(f"2024-06-{day:02}T{hour:02}:30+00:00")) for day, hour in ((7, 21), (7, 22), (8, 5), (8, 6))]
    assert held == [False, True, True, False]


def test_a_budget_slows_down_and_says_so() -> None:
    budget = Budget(money_per_day=24.0)
    target = Target(
        name="t",
        max_replicas=10,
        jobs_per_replica=1,
        budget=budget,
        price_per_hour=1.0,
        cooldown=0,
        stabilisation_window=0,
    )
    midnight = math.floor(START / DAY) * DAY
    assert budget_hours(target) == 24
    memory, replicas, sizes = Memory(), 0, []
    for hour in range(24):
        decision = decide(target, see(midnight + hour * 3600, 100, 0, fleet_of(replicas)), memory)
        assert decision.replicas is not None
        memory, replicas = decision.memory, decision.replicas
        sizes.append(replicas)
        if replicas < 10:
            assert decision.code in ("over-budget", "down")
            assert "replica-hours are used" in decision.reason
    assert sizes[0] == 10
    assert sizes[4] < 10
    assert sum(sizes) <= 24 + 10, "no more than one hour at full size too much"
    tomorrow = decide(target, see(midnight + DAY + 60, 100, 0, fleet_of(replicas)), memory)
    assert tomorrow.replicas == 10


def test_the_forecast_is_work_over_replicas() -> None:
    target = Target(name="t", service_seconds=2.0, price_per_hour=3.6)
    ahead = forecast(target, Load(90, 10), fleet_of(4), None)
    assert (ahead.seconds, ahead.cost) == (pytest.approx(50), pytest.approx(0.2))
    assert forecast(target, Load(90, 10), fleet_of(4), 1.0).seconds == pytest.approx(25)
    assert forecast(target, Load(90, 10), fleet_of(0), None).seconds is None


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"min_replicas": 3, "max_replicas": 2}, "min_replicas is 3"),
        ({"budget": {"gpu_hours_per_day": 3}}, "gpus_per_replica"),
        ({"budget": {"money_per_day": 3}}, "price_per_hour"),
        ({"budget": {}}, "either"),
        ({"kind": "Deploy ment"}, "kind"),
        ({"queues": {"a": 0}}, "queues"),
        ({"name": "Not Allowed"}, "name"),
        ({"unknown": 1}, "unknown"),
        ({"schedule": [{"begin": "08:00", "end": "09:00", "min_replicas": 1, "timezone": "Mars/North"}]}, "Mars/North"),
        ({"schedule": [{"begin": "08:00", "end": "09:00", "min_replicas": 99}]}, "asks for 99"),
    ],
)
def test_a_wrong_target_names_itself(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError) as refused:
        Target.model_validate({"name": "t", **wrong})
    assert named in str(refused.value)


GATHERS = Target(name="t", jobs_per_replica=10, max_replicas=5, gather_seconds=600)


def _gather(waiting: float, age: float, *, running: float = 0, replicas: int = 0) -> Decision:
    seen = Observation(START, Load(waiting, running, age), fleet_of(replicas), Hands())
    return decide(GATHERS, seen, Memory())


def test_little_work_gathers_until_its_oldest_job_has_waited_long_enough() -> None:
    early = _gather(3, 100)
    assert (early.code, early.replicas, early.again_in) == ("gathering", 0, 500)
    assert early.reason == "3 waiting and 0 running need 1 (10 jobs each): stays at 0; it gathers for another 500 s."
    assert (_gather(3, 600).code, _gather(3, 600).replicas) == ("up", 1)


def test_much_work_and_what_runs_already_does_not_gather() -> None:
    assert _gather(11, 0).replicas == 2
    assert _gather(3, 0, running=1).replicas == 1
    assert _gather(3, 0, replicas=1).code == "steady"
    assert _gather(0, 0).code == "steady"


def test_gathering_has_to_leave_time_for_the_start() -> None:
    with pytest.raises(ValueError, match=r"gather_seconds and start_seconds together are 610; .* max_wait, 600"):
        Target(name="t", max_wait=600, start_seconds=170, gather_seconds=440)
