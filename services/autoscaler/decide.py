"""The decision: from what is seen of a target, the clock and the memory to a number of replicas, with the reason.

Pure: no clock, no network. The service, `kiosk simulate` and the tests run this same code. The rules, in order:

1. What cannot be read is never acted upon: the number stays as it is.
2. Up at once, to what the work needs, within the bounds, the step limit and the budget.
3. Down only after the cooldown, to the highest need within the stabilisation window, and only by replicas that hold
   nothing. Two additions are thus never separated by a removal within one cooldown: in a time T the direction turns
   from up to down at most 1 + T / cooldown times, whatever the noise.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass, field
from typing import Literal

from services.autoscaler.targets import Target

DAY = 86_400.0
_HOUR = 3_600.0

Code = Literal[
    "hold",
    "up",
    "down",
    "steady",
    "gathering",
    "cooling",
    "busy",
    "at-max",
    "at-step-limit",
    "over-budget",
    "unservable",
]


@dataclass(frozen=True)
class Load:
    """The work of a target's queues: weighted jobs that wait and run, and the oldest waiting job's age (s)."""

    waiting: float = 0.0
    running: float = 0.0
    oldest_age: float = 0.0

    @property
    def work(self) -> float:
        """All of it."""
        return self.waiting + self.running


@dataclass(frozen=True)
class Member:
    """One replica as the scaler sees it.

    Attributes:
        name: the pod's, which is the worker's.
        stopping: it was told to end.
        ready: it works.
        problem: why it cannot start, in words; empty for none.
        ordinal: its number in a StatefulSet, of which the highest goes first; None where any may go.
        created: s since 1970.
    """

    name: str
    stopping: bool = False
    ready: bool = True
    problem: str = ""
    ordinal: int | None = None
    created: float = 0.0


@dataclass(frozen=True)
class Fleet:
    """The replicas of a target: the number asked for, those that exist, and why others do not; empty for no reason."""

    replicas: int
    members: tuple[Member, ...] = ()
    missing: str = ""

    @functools.cached_property
    def staying(self) -> tuple[Member, ...]:
        """Those that were not told to end."""
        return tuple(member for member in self.members if not member.stopping)


@dataclass(frozen=True)
class Hands:
    """What the workers of a target have in hand: names that hold a job, or may, and names marked as retiring."""

    busy: frozenset[str] = frozenset()
    retiring: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Observation:
    """Everything that is known of a target at one moment.

    Attributes:
        at: s since 1970.
        load: None where it cannot be read.
        fleet: None where it cannot be read.
        hands: None where it was not asked for yet (it costs more; the decision says when it is needed).
        unreadable: what could not be read and why, for people.
        service_seconds: replica-seconds of an ordinary job as measured; None before that.
    """

    at: float
    load: Load | None
    fleet: Fleet | None
    hands: Hands | None = None
    unreadable: str = ""
    service_seconds: float | None = None


@dataclass(frozen=True)
class Memory:
    """What must be remembered of a target from one decision to the next.

    Attributes:
        needs: (time until which it was so, need): highest needs within the stabilisation window, falling; the last is
            the present one.
        steps: (time, change) within the step period.
        last_up: time of the last addition.
        day: number of the day (UTC) that `spent` belongs to.
        spent: replica-hours used on that day.
        seen: time and number of replicas of the last look, for the account.
    """

    needs: tuple[tuple[float, int], ...] = ()
    steps: tuple[tuple[float, int], ...] = ()
    last_up: float = -math.inf
    day: int = -1
    spent: float = 0.0
    seen: tuple[float, int] | None = None


@dataclass(frozen=True)
class Decision:
    """What to do with a target.

    Attributes:
        code: kind of decision, one of a few words, for metrics.
        reason: a sentence for people.
        replicas: how many there are to be now; None while holding.
        wanted: what the work alone would need, within the bounds; None while holding.
        actual: how many were asked for before.
        retire: idle replicas to be removed, in this order; the caller marks them, confirms that they hold nothing
            and removes those confirmed: `replicas` counts on all of them.
        unretire: replicas that are to work again.
        needs_hands: the decision depends on what the workers hold: ask, and decide again.
        again_in: s after which the decision may differ without any event; None for never.
        memory: to be given to the next decision, once this one is carried out.
    """

    code: Code
    reason: str
    replicas: int | None
    wanted: int | None
    actual: int | None
    memory: Memory
    retire: tuple[str, ...] = ()
    unretire: tuple[str, ...] = ()
    needs_hands: bool = False
    again_in: float | None = None

    @property
    def changes(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.retire or self.unretire or (self.replicas is not None and self.replicas != self.actual))


@dataclass(frozen=True)
class Forecast:
    """When the queue will be empty (s from now; None for never as it stands), and what that costs."""

    seconds: float | None
    cost: float


@dataclass(frozen=True)
class _Need:
    """What the work needs, how the bounds changed that, and why, in words; s after which it will be another."""

    replicas: int
    why: str
    limit: Code | None = None
    notes: tuple[str, ...] = field(default=())
    again_in: float | None = None


def decide(target: Target, seen: Observation, memory: Memory) -> Decision:
    """Decide about one target."""
    if seen.load is None or seen.fleet is None:
        held = f"Held: {seen.unreadable or 'something needed cannot be read'}."
        actual = seen.fleet.replicas if seen.fleet else None
        return Decision("hold", held, None, None, actual, _held(memory, seen, actual))
    day, spent = _account(memory, seen.at, seen.fleet.replicas)
    need = _need(target, seen, seen.load, spent)
    memory = _remember(target, seen.at, need.replicas, memory, day, spent, seen.fleet.replicas)
    if need.replicas >= seen.fleet.replicas:
        return _up(target, seen, seen.fleet, need, memory)
    return _down(target, seen, seen.fleet, need, memory)


def _need(target: Target, seen: Observation, load: Load, spent: float) -> _Need:
    needed, why = _of_work(target, seen, load)
    gathers = _gathers(target, seen, load, needed)
    if gathers is not None:
        needed = 0
    floor = target.floor(seen.at)
    wanted = max(floor, needed + target.warm_spares)
    if target.warm_spares:
        why += f" and {target.warm_spares} warm"
    if wanted == floor > needed + target.warm_spares:
        why += f", at least {floor} are kept"
    allowed = _affordable(target, seen.at, spent, floor)
    if wanted > target.max_replicas and target.max_replicas <= allowed:
        return _Need(target.max_replicas, why, "at-max", (f"{target.max_replicas} is the most allowed",))
    if wanted > allowed:
        return _Need(allowed, why, "over-budget", (_budget_note(target, spent),))
    if gathers is not None and not wanted:
        return _Need(0, why, "gathering", (f"it gathers for another {gathers:.0f} s",), gathers)
    return _Need(wanted, why)


def _gathers(target: Target, seen: Observation, load: Load, needed: int) -> float | None:
    """Return s for which waiting work may still gather; None where it is to be served now.

    A node that is started for one job is paid until long after it, so jobs that can wait share it.
    """
    assert seen.fleet is not None
    if needed != 1 or load.running or seen.fleet.replicas:
        return None
    left = target.gather_seconds - load.oldest_age
    return left if left > 0 else None


def _of_work(target: Target, seen: Observation, load: Load) -> tuple[int, str]:
    work = f"{load.waiting:g} waiting and {load.running:g} running"
    if load.work <= 0:
        return 0, "no work needs 0"
    if target.max_wait is None:
        needed = math.ceil(load.work / target.jobs_per_replica - 1e-9)
        return needed, f"{work} need {needed} ({target.jobs_per_replica:g} jobs each)"
    assert seen.fleet is not None
    each = seen.service_seconds or target.service_seconds
    ready = min(seen.fleet.replicas, sum(member.ready for member in seen.fleet.staying))
    needed = max(1, _within(target, load.work * each, target.max_wait, ready))
    return needed, f"{work} of {each:.3g} s need {needed} to wait no longer than {target.max_wait:g} s"


def _within(target: Target, effort: float, wait: float, ready: int) -> int:
    """Return the replicas that get through an effort (replica-seconds) within the wait (s).

    Those that work already have all of it; new ones must start first and have so much less.
    """
    surplus = effort - ready * wait
    if surplus <= 0:
        return math.ceil(effort / wait - 1e-9)
    return ready + math.ceil(surplus / max(wait - target.start_seconds, wait / 10) - 1e-9)


def _affordable(target: Target, at: float, spent: float, floor: int) -> int:
    """Return the most replicas that the day's budget allows; the floor is always kept."""
    if target.budget is None:
        return target.max_replicas
    left = budget_hours(target) - spent
    rest_of_day = (DAY - at % DAY) / _HOUR
    # While more than a fifth is left it may be spent at any speed; the last fifth is spread over the rest of the day.
    if left > 0.2 * budget_hours(target):
        return target.max_replicas
    return max(floor, min(target.max_replicas, math.floor(left / rest_of_day)))


def budget_hours(target: Target) -> float:
    """Return a day's budget in replica-hours."""
    assert target.budget is not None
    if target.budget.gpu_hours_per_day is not None:
        return target.budget.gpu_hours_per_day / target.gpus_per_replica
    assert target.budget.money_per_day is not None
    return target.budget.money_per_day / target.price_per_hour


def _budget_note(target: Target, spent: float) -> str:
    return f"{spent:.1f} of the day's {budget_hours(target):.1f} replica-hours are used"


def _up(target: Target, seen: Observation, fleet: Fleet, need: _Need, memory: Memory) -> Decision:
    """Decide where at least as many are needed as there are: nobody is to go."""
    actual = fleet.replicas
    unretire = _marked(seen, fleet)
    room = max(0, target.max_step_up - _stepped(memory, up=True))
    replicas = min(need.replicas, actual + room)
    code: Code = "up" if replicas > actual else need.limit or ("at-step-limit" if need.replicas > actual else "steady")
    notes = list(need.notes)
    if replicas < need.replicas:
        notes.append(f"no more than {target.max_step_up} are added in {target.step_period:g} s")
    problems = _problems(fleet)
    if problems and code in ("steady", "at-max"):
        code = "unservable"
    reason = _sentence(need.why, _exist(actual, replicas), notes + problems)
    if replicas > actual:
        memory = _step(memory, seen.at, replicas - actual)
    again = _steps_end(target, seen.at, memory) if replicas < need.replicas else need.again_in
    return Decision(code, reason, replicas, need.replicas, actual, memory, unretire=unretire, again_in=again)


def _down(target: Target, seen: Observation, fleet: Fleet, need: _Need, memory: Memory) -> Decision:
    """Decide where fewer are needed than there are: only replicas that hold nothing go, and none too early."""
    stay = Decision("cooling", "", fleet.replicas, need.replicas, fleet.replicas, memory, unretire=_marked(seen, fleet))
    waiting = _wait_before_down(target, seen.at, fleet, memory)
    if waiting is not None:
        seconds, note = waiting
        reason = _sentence(need.why, _exist(fleet.replicas, fleet.replicas), [note, *need.notes])
        return dataclasses.replace(stay, reason=reason, again_in=seconds)
    if seen.hands is None:
        return dataclasses.replace(stay, reason="What the workers hold is asked for.", needs_hands=True)
    return _remove(target, seen, fleet, need, stay)


def _wait_before_down(target: Target, at: float, fleet: Fleet, memory: Memory) -> tuple[float, str] | None:
    """Return s to wait before any replica may go, and why; None where one may go now."""
    if len(fleet.staying) > fleet.replicas:
        return 1.0, "an earlier removal is under way"
    if fleet.replicas > target.max_replicas:
        return None
    wait = max(memory.last_up + target.cooldown - at, 0.0)
    if _highest(memory) >= fleet.replicas:
        wait = max(wait, _window_end(target, at, memory, fleet.replicas))
    return (wait, f"none goes for another {wait:.0f} s") if wait > 0 else None


def _remove(target: Target, seen: Observation, fleet: Fleet, need: _Need, stay: Decision) -> Decision:
    """Choose which replicas go: as many as are idle, too many, and allowed at once."""
    assert seen.hands is not None
    memory, actual = stay.memory, fleet.replicas
    goal = min(_highest(memory), target.max_replicas)
    room = max(0, target.max_step_down - _stepped(memory, up=False))
    surplus = min(actual - goal, room)
    # Replicas that are asked for but do not exist (a quota, a slow controller) cost nothing to give up.
    missing = min(surplus, max(0, actual - len(fleet.staying)))
    going = tuple(member.name for member in _idle(fleet, seen.hands)[: surplus - missing])
    back = tuple(sorted(seen.hands.retiring & {member.name for member in fleet.staying} - set(going)))
    replicas = actual - missing - len(going)
    if replicas == actual:
        code: Code = "busy" if room else "at-step-limit"
        note = (
            "all of them hold work" if room else f"no more than {target.max_step_down} go in {target.step_period:g} s"
        )
        reason = _sentence(need.why, _exist(actual, actual), [note, *need.notes])
        again = target.step_period if room else _steps_end(target, seen.at, memory)
        return dataclasses.replace(stay, code=code, reason=reason, unretire=back, again_in=again)
    after = _step(memory, seen.at, replicas - actual)
    again_in = _steps_end(target, seen.at, after) if replicas > goal else None
    if replicas > need.replicas and again_in is None:
        again_in = _window_end(target, seen.at, memory, replicas)
    reason = _sentence(need.why, _exist(actual, replicas), list(need.notes))
    return dataclasses.replace(
        stay,
        code="down",
        reason=reason,
        replicas=replicas,
        memory=after,
        retire=going,
        unretire=back,
        again_in=again_in,
    )


def _idle(fleet: Fleet, hands: Hands) -> list[Member]:
    """Return the replicas that may go, the best to lose first: those that do not work, then marked, then young ones.

    Of a StatefulSet only the highest ordinals can go, so the first busy one ends the list.
    """
    staying = list(fleet.staying)
    if any(member.ordinal is not None for member in staying):
        staying.sort(key=lambda member: -(member.ordinal or 0))
        busy = next((i for i, member in enumerate(staying) if member.name in hands.busy), len(staying))
        return staying[:busy]
    free = [member for member in staying if member.name not in hands.busy]
    free.sort(key=lambda m: (m.ready, m.name not in hands.retiring, -m.created, m.name))
    return free


def _marked(seen: Observation, fleet: Fleet) -> tuple[str, ...]:
    """Return replicas that are marked though nobody is to go: left over from a removal that did not happen."""
    if seen.hands is None or len(fleet.staying) > fleet.replicas:
        return ()
    return tuple(sorted(seen.hands.retiring & {member.name for member in fleet.staying}))


def _problems(fleet: Fleet) -> list[str]:
    troubled = [member.problem for member in fleet.staying if member.problem]
    said = [f"{fleet.replicas - len(fleet.staying)} do not exist: {fleet.missing}"] if fleet.missing else []
    if not troubled:
        return said
    common = max(sorted(set(troubled)), key=troubled.count)
    return [f"{len(troubled)} cannot start: {common}", *said]


def _sentence(why: str, exist: str, notes: list[str]) -> str:
    text = "; ".join([f"{why}: {exist}", *notes])
    return text[0].upper() + text[1:] + "."


def _exist(actual: int, replicas: int) -> str:
    if replicas > actual:
        return f"{actual} → {replicas}"
    if replicas < actual:
        return f"{actual} → {replicas}, idle ones go"
    return f"stays at {actual}"


def _remember(target: Target, at: float, need: int, memory: Memory, day: int, spent: float, actual: int) -> Memory:
    """Note the need; of the past, keep only what a later, higher need does not hide: a falling staircase."""
    begin = at - target.stabilisation_window
    needs = [*memory.needs[:-1], (at, memory.needs[-1][1])] if memory.needs else []
    kept = (*(entry for entry in needs if entry[1] > need and entry[0] > begin), (at, need))
    steps = tuple(step for step in memory.steps if step[0] > at - target.step_period) if memory.steps else ()
    # After a start nothing is known of the past: it counts as an addition, so that nobody goes too early.
    last_up = memory.last_up if memory.needs else max(memory.last_up, at)
    return Memory(kept, steps, last_up, day, spent, (at, actual))


def _highest(memory: Memory) -> int:
    return memory.needs[0][1]


def _window_end(target: Target, at: float, memory: Memory, replicas: int) -> float:
    """Return s until no need of at least ``replicas`` is left in the window."""
    last = [until for until, need in memory.needs if need >= replicas]
    return max(0.0, max(last) + target.stabilisation_window - at) if last else 0.0


def _stepped(memory: Memory, *, up: bool) -> int:
    return sum(change if up else -change for _at, change in memory.steps if (change > 0) == up)


def _steps_end(target: Target, at: float, memory: Memory) -> float:
    return max(0.0, min((step[0] for step in memory.steps), default=at) + target.step_period - at)


def _step(memory: Memory, at: float, change: int) -> Memory:
    last_up = at if change > 0 else memory.last_up
    return dataclasses.replace(memory, steps=(*memory.steps, (at, change)), last_up=last_up)


def _account(memory: Memory, at: float, replicas: int) -> tuple[int, float]:
    """Return the day and its replica-hours with those since the last look; at midnight a new account is opened."""
    day = int(at // DAY)
    since, before = memory.seen or (at, replicas)
    begin = max(since, day * DAY)
    spent = memory.spent if day == memory.day else 0.0
    return day, spent + before * max(0.0, at - begin) / _HOUR


def resumed(memory: Memory, at: float, spent: float, actual: int | None) -> Memory:
    """Take over the day's account as another process left it at a time (s since 1970), if it is newer than one's own.

    ``spent`` is in replica-hours of that day, ``actual`` the replicas then, None where they were not known.
    """
    if memory.seen is not None and memory.seen[0] >= at:
        return memory
    return dataclasses.replace(memory, day=int(at // DAY), spent=spent, seen=None if actual is None else (at, actual))


def _held(memory: Memory, seen: Observation, actual: int | None) -> Memory:
    known = actual if actual is not None else memory.seen[1] if memory.seen else None
    if known is None:
        return memory
    day, spent = _account(memory, seen.at, known)
    return dataclasses.replace(memory, day=day, spent=spent, seen=(seen.at, known))


def forecast(target: Target, load: Load, fleet: Fleet, measured: float | None) -> Forecast:
    """Foresee when the queue is empty at the replicas there are, and what that will cost."""
    effort = load.work * (measured or target.service_seconds)
    cost = effort / _HOUR * target.price_per_hour
    if effort <= 0:
        return Forecast(0.0, 0.0)
    return Forecast(effort / fleet.replicas if fleet.replicas else None, cost)
