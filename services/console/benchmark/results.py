"""Result files of benchmarks in numbers, ours and those of the old suite, and repeated runs together."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.console.benchmark.document import TIMES, flat
from shared.errors import InvalidInput


@dataclass(frozen=True)
class Result:
    """One result file in numbers; NaN-free: what the file does not tell is None."""

    name: str
    gpus: int | None
    jobs: int
    images: int
    delay: float
    seconds: float
    cost: float | None
    stages: dict[str, float]
    """Mean seconds by stage."""

    @property
    def throughput(self) -> float:
        """Images/s."""
        return self.images / self.seconds if self.seconds else 0.0


def read(path: Path) -> Result:
    """Return a result file in numbers.

    Raises:
        InvalidInput: it is no result of a benchmark.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        jobs = raw["job_data"]
        seconds = float(raw["time_elapsed"])
        count = int(raw["num_jobs"])
        stages = {name: values for name in TIMES if (values := [v for job in jobs for v in flat(job.get(name))])}
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{path} is not the result of a benchmark: it lacks {_lack(error)}.") from error
    cost = str(raw.get("total_node_and_networking_costs") or "")
    return Result(
        name=path.name,
        gpus=_gpus(path.name, raw),
        jobs=count,
        images=sum(int(sum(flat(job.get("total_jobs"))) or 1) for job in jobs),
        delay=float(raw.get("start_delay") or 0.0),
        seconds=seconds,
        cost=float(cost) if cost else None,
        stages={name.removesuffix("_time"): statistics.fmean(values) for name, values in stages.items()},
    )


def _lack(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"the field {error}"
    return "JSON" if isinstance(error, ValueError) else f"the form of one ({error})"


def _gpus(name: str, raw: dict[str, Any]) -> int | None:
    if raw.get("gpus") is not None:
        return int(raw["gpus"])
    first = name.partition("_")[0]
    return int(first[:-3]) if first.endswith("gpu") and first[:-3].isdigit() else None


def grouped(results: Sequence[Result]) -> dict[tuple[int | None, int], list[Result]]:
    """Return repeated runs together, by GPUs and number of images."""
    groups: dict[tuple[int | None, int], list[Result]] = defaultdict(list)
    for result in results:
        groups[result.gpus, result.images].append(result)
    return dict(sorted(groups.items(), key=lambda item: (item[0][0] or 0, item[0][1])))


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation; 0 for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
