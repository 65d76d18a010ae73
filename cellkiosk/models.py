"""What the server tells, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FINAL = frozenset({"done", "failed", "canceled"})


@dataclass(frozen=True, slots=True)
class File:
    """An uploaded file."""

    key: str
    """Its name on the server, to be named in jobs."""
    name: str
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a job."""

    id: str
    """Of the job."""
    status: str
    """new, started, pre-processing, predicting, post-processing, saving-results, waiting, done, failed or canceled."""
    progress: int
    """Percent."""
    position: int | None = None
    """Place among your own waiting jobs of the type, from 1."""
    eta: float | None = None
    """Estimated s until it is done."""
    name: str = ""
    """Of the file."""
    reason: str | None = None
    """Why it failed or was canceled."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Of an archive: images that failed, with the reason."""
    updated_at: str = ""
    """ISO 8601."""

    @property
    def final(self) -> bool:
        """Whether the job has ended."""
        return self.status in FINAL


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job as it stands."""

    id: str
    type: str
    status: str
    progress: int
    """Percent."""
    name: str
    """Of the file."""
    created_at: str
    """ISO 8601, as the following."""
    updated_at: str
    finished_at: str | None
    position: int | None
    reason: str | None
    failures: Mapping[str, str]
    raw: Mapping[str, Any]
    """All that the server told."""

    @property
    def final(self) -> bool:
        """Whether it has ended."""
        return self.status in FINAL


@dataclass(frozen=True, slots=True)
class JobType:
    """Something that can be done with an image."""

    name: str
    title: str
    description: str
    aliases: tuple[str, ...]
    model: str
    """Used unless another is asked for."""
    options: Mapping[str, Any]
    """JSON Schema of its options."""


def event_of(raw: Mapping[str, Any]) -> Event:
    """Return an event from its JSON."""
    return Event(
        raw["id"],
        raw["status"],
        int(raw["progress"]),
        raw.get("position"),
        raw.get("eta"),
        raw.get("name") or "",
        raw.get("reason"),
        raw.get("failures") or {},
        raw.get("updated_at") or "",
    )


def info_of(raw: Mapping[str, Any]) -> JobInfo:
    """Return a job from its JSON."""
    return JobInfo(
        raw["id"],
        raw["type"],
        raw["status"],
        int(raw["progress"]),
        raw.get("name") or "",
        raw["created_at"],
        raw["updated_at"],
        raw.get("finished_at"),
        raw.get("position"),
        raw.get("reason"),
        raw.get("failures") or {},
        raw,
    )


def type_of(raw: Mapping[str, Any]) -> JobType:
    """Return a job type from its JSON."""
    return JobType(
        raw["name"], raw["title"], raw["description"], tuple(raw["aliases"]), raw["model"], raw["options_schema"]
    )
