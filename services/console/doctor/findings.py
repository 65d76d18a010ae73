"""What the doctor can say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        part: what was looked at.
        state: how it is.
        sentence: what was seen.
        remedy: what to do about it; empty where nothing is to be done.
    """

    part: str
    state: Literal["ok", "warning", "failed"]
    sentence: str
    remedy: str = ""


def ok(part: str, sentence: str) -> Finding:
    """Say that something is well."""
    return Finding(part, "ok", sentence)


def warning(part: str, sentence: str, remedy: str) -> Finding:
    """Say that something could be better."""
    return Finding(part, "warning", sentence, remedy)


def failed(part: str, sentence: str, remedy: str) -> Finding:
    """Say that something does not work."""
    return Finding(part, "failed", sentence, remedy)
