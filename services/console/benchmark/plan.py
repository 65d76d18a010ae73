"""What a benchmark does, from options or from the environment of the chart's benchmark deployment."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.errors import InvalidInput


@dataclass(frozen=True)
class Plan:
    """One benchmark.

    Attributes:
        files: local files to upload, or names of files that lie under ``uploads/`` in the bucket already.
        local: whether they are local.
        job_type: what is done with each.
        model: ``name:version`` or a name, empty for the job type's own; recorded in the result.
        count: number of jobs; the files take turns.
        start_delay: s between two submissions.
        gpus: GPUs that the cluster had, for the name of the result; None leaves it out.
        machine: machine type whose price counts where no Prometheus can be asked; may be followed by ``,GPU``.
    """

    files: tuple[str, ...]
    local: bool
    job_type: str
    model: str = ""
    count: int = 1
    start_delay: float = 0.0
    gpus: int | None = None
    machine: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if not self.files:
            raise InvalidInput("Name a file to benchmark with, or give its name in the bucket in FILE.")
        if not 1 <= self.count <= 1_000_000:
            raise InvalidInput(f"The number of jobs is {self.count}; allowed are 1 to 1,000,000.")
        if self.start_delay < 0:
            raise InvalidInput(f"The start delay is {self.start_delay:g} s; it must not be negative.")
        if self.gpus is not None and self.gpus < 0:
            raise InvalidInput(f"The number of GPUs is {self.gpus}; it must not be negative.")
        if self.local:
            missing = next((file for file in self.files if not Path(file).is_file()), None)
            if missing:
                raise InvalidInput(f"There is no file {missing!r}.")
            empty = next((file for file in self.files if not Path(file).stat().st_size), None)
            if empty:
                raise InvalidInput(f"The file {empty!r} is empty.")

    @property
    def model_name(self) -> str:
        """The model without its version."""
        return self.model.partition(":")[0]

    @property
    def model_version(self) -> str:
        """The version of the model; empty: the newest."""
        return self.model.partition(":")[2]


def of(options: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> Plan:
    """Return the plan that options, and where they are missing MODEL, FILE and COUNT, describe.

    Raises:
        InvalidInput: something of it is missing or wrong.
    """
    named = tuple(options.files) or tuple(filter(None, [environment.get("FILE", "")]))
    local = bool(options.files) and not options.in_bucket
    return Plan(
        files=named,
        local=local,
        job_type=options.type or environment.get("JOB_TYPE", "") or "segmentation",
        model=options.model or environment.get("MODEL", ""),
        count=_whole("COUNT", str(options.count or environment.get("COUNT", "") or max(1, len(named)))),
        start_delay=_number("--start-delay", str(options.start_delay or environment.get("START_DELAY", "") or 0)),
        gpus=options.gpus,
        machine=options.machine or "",
    )


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise InvalidInput(f"{name} is {text!r}; it must be a whole number.") from error


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InvalidInput(f"{name} is {text!r}; it must be a number of seconds.") from error
