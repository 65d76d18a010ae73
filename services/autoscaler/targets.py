"""What may be scaled, and within which bounds: the operator's configuration of each target."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections import Counter
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from shared.settings import Group, Seconds

Replicas = Annotated[int, Field(ge=0, le=10_000)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_KIND = r"^(Deployment|StatefulSet|ReplicaSet|[a-z0-9]+\.v[a-z0-9]+\.[a-z0-9.-]+)$"


class Floor(Group):
    """A least number of replicas at certain hours, so that people at work do not wait for a cold start."""

    days: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri")
    """Days on which it begins."""
    begin: dt.time
    """Local time at which it begins, such as 08:00."""
    end: dt.time
    """Local time at which it ends; earlier than the beginning: on the next day."""
    min_replicas: Replicas
    """Replicas kept meanwhile."""
    timezone: str = "UTC"
    """Name of the IANA time zone, such as Europe/Zurich."""

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            zoneinfo.ZoneInfo(name)
        except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
            raise ValueError(f"{name!r} is not a time zone of the IANA database, such as Europe/Zurich") from error
        return name

    def holds(self, at: float) -> bool:
        """Tell whether it is in force at a time (s since 1970)."""
        here = dt.datetime.fromtimestamp(at, zoneinfo.ZoneInfo(self.timezone))
        today, clock = _DAYS[here.weekday()], here.time()
        if self.begin <= self.end:
            return today in self.days and self.begin <= clock < self.end
        yesterday = _DAYS[here.weekday() - 1]
        return (today in self.days and clock >= self.begin) or (yesterday in self.days and clock < self.end)


class Budget(Group):
    """The most that a target may use in a day (UTC); one of the two."""

    gpu_hours_per_day: float | None = Field(None, gt=0)
    """GPU-hours."""
    money_per_day: float | None = Field(None, gt=0)
    """Money, in the unit of the price."""

    @model_validator(mode="after")
    def _one(self) -> Budget:
        if (self.gpu_hours_per_day is None) == (self.money_per_day is None):
            raise ValueError("a budget names either gpu_hours_per_day or money_per_day")
        return self


class Target(Group):
    """One thing that is scaled: a Deployment, a StatefulSet, any kind with a ``scale``, or local processes."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")]
    """Of the Kubernetes object; on one machine, the beginning of the workers' names."""
    kind: Annotated[str, Field(pattern=_KIND)] = "Deployment"
    """Deployment, StatefulSet, ReplicaSet, or <plural>.<version>.<group> of anything else with a scale, as in
    rollouts.v1alpha1.argoproj.io."""
    queues: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Job type to weight: how many ordinary jobs one job counts for; empty: all announced types, weight 1."""
    jobs_per_replica: float = Field(16.0, gt=0)
    """Weighted jobs, waiting or running, that one replica is there for. Not used where max_wait is given."""
    max_wait: Seconds | None = None
    """s; wanted longest wait. Then the number follows from the measured service time instead."""
    service_seconds: float = Field(1.0, gt=0)
    """s of one replica that an ordinary job takes; used until measured."""
    start_seconds: Annotated[float, Field(ge=0)] = 0.0
    """s until a new replica works, with its node's boot; taken off max_wait, since a job waits for that too."""
    gather_seconds: Annotated[float, Field(ge=0)] = 0.0
    """s that work of less than one replica may gather before the first one starts, so that jobs share a start."""
    min_replicas: Replicas = 0
    """Replicas, never fewer."""
    max_replicas: Replicas = 10
    """Replicas, never more."""
    max_step_up: int = Field(10_000, ge=1)
    """Most replicas added within a step period."""
    max_step_down: int = Field(10_000, ge=1)
    """Most replicas removed within a step period."""
    step_period: Seconds = 15.0
    """s in which the two step limits count."""
    cooldown: Annotated[float, Field(ge=0)] = 60.0
    """s after the last addition before any replica is removed."""
    stabilisation_window: Annotated[float, Field(ge=0)] = 60.0
    """s; replicas go down to the highest number wanted within it."""
    warm_spares: Replicas = 0
    """Replicas kept beyond the need, so that the next job finds one that is warm."""
    schedule: tuple[Floor, ...] = ()
    """Hours with a higher least number, such as {begin: "08:00", end: "18:00", timezone: Europe/Zurich,
    min_replicas: 1}; Monday to Friday, unless days say otherwise, such as [mon, sat]."""
    budget: Budget | None = None
    """Most in a day (UTC): {gpu_hours_per_day: 20}, or {money_per_day: 100} with price_per_hour; none: no bound."""
    gpus_per_replica: float = Field(0.0, ge=0)
    """GPUs of one replica, for the budget."""
    price_per_hour: float = Field(0.0, ge=0)
    """Money for one replica and hour, for the budget and the forecast."""
    in_flight_port: int | None = Field(None, ge=1, le=65535)
    """Metrics port of a Triton replica, for targets that hold no jobs themselves: busy is what has requests."""

    @model_validator(mode="after")
    def _consistent(self) -> Target:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas is {self.min_replicas}, more than max_replicas, {self.max_replicas}")
        if floor := next((f for f in self.schedule if f.min_replicas > self.max_replicas), None):
            raise ValueError(f"the schedule asks for {floor.min_replicas}, more than max_replicas, {self.max_replicas}")
        if self.max_wait and self.gather_seconds and self.gather_seconds + self.start_seconds >= self.max_wait:
            raise ValueError(
                f"gather_seconds and start_seconds together are {self.gather_seconds + self.start_seconds:g}; "
                f"they have to leave something of max_wait, {self.max_wait:g}"
            )
        if self.budget and self.budget.gpu_hours_per_day and not self.gpus_per_replica:
            raise ValueError("a budget in GPU-hours needs gpus_per_replica")
        if self.budget and self.budget.money_per_day and not self.price_per_hour:
            raise ValueError("a budget in money needs price_per_hour")
        return self

    def floor(self, at: float) -> int:
        """Return the least number of replicas at a time (s since 1970)."""
        return max([self.min_replicas, *(floor.min_replicas for floor in self.schedule if floor.holds(at))])


def check_names(targets: tuple[Target, ...]) -> tuple[Target, ...]:
    """Refuse targets of one name, raising ValueError."""
    twice = sorted(name for name, count in Counter((t.kind, t.name) for t in targets).items() if count > 1)
    if twice:
        raise ValueError(f"the target {twice[0][1]!r} is named twice")
    return targets
