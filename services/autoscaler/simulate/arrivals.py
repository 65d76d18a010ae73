"""When jobs arrive, and how long a replica works on each: arrays of seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidInput

Seconds = NDArray[np.float64]

DAY = 86_400.0


@dataclass(frozen=True)
class Workload:
    """The jobs of one simulation.

    Attributes:
        name: for titles.
        at: (n,) arrival of each job, s from the beginning, ascending.
        service: (n,) replica-seconds of each job.
        duration: s; how long the simulation goes on at least.
    """

    name: str
    at: Seconds
    service: Seconds
    duration: float

    @property
    def work(self) -> float:
        """All replica-seconds."""
        return float(self.service.sum())


def constant(jobs: int, duration: float, random: np.random.Generator) -> Seconds:
    """Return a Poisson process of a constant rate."""
    return np.sort(random.uniform(0, duration, jobs))


def bursts(jobs: int, duration: float, random: np.random.Generator, count: int = 24) -> Seconds:
    """Return jobs in bursts at random times; a burst's size is log-normal, as experiments' are, sent within 10 s."""
    sizes = random.lognormal(0.0, 0.8, count)
    share = np.floor(sizes / sizes.sum() * jobs).astype(int)
    share[0] += jobs - share.sum()
    begins = np.sort(random.uniform(0, duration, count))
    return np.sort(np.concatenate([b + random.uniform(0, 10, n) for b, n in zip(begins, share, strict=True)]))


def day(jobs: int, duration: float, random: np.random.Generator) -> Seconds:
    """Return a working day's curve, repeated: quiet nights, a peak before and after noon, Poisson around it."""
    hours = np.linspace(0, 24, 24 * 60 + 1)
    rate = 0.06 + np.exp(-((hours - 10.5) ** 2) / 4.5) + 0.9 * np.exp(-((hours - 15.0) ** 2) / 6.0)
    cumulative = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2)])
    days = max(1, round(duration / DAY))
    quantiles = random.uniform(0, 1, jobs)
    within = np.interp(quantiles, cumulative / cumulative[-1], hours) * 3600.0
    return np.sort(within + DAY * random.integers(0, days, jobs))


def batch(jobs: int) -> Seconds:
    """Return jobs that all arrive at once."""
    return np.zeros(jobs)


def trace(path: Path) -> Seconds:
    """Return the arrival times of a file: one number of seconds a line; the first becomes 0.

    Raises:
        InvalidInput: the file cannot be read or holds something else.
    """
    at = np.sort(numbers(path))
    return np.asarray(at - at[0], np.float64)


def numbers(path: Path) -> Seconds:
    """Return the numbers of a file, one a line; empty lines and those that begin with # are left out.

    Raises:
        InvalidInput: the file cannot be read, is empty, or holds something that is not a finite number ≥ 0.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The file {path} cannot be read: {error}.") from error
    values = []
    for number, line in enumerate(lines, 1):
        text = line.split("#")[0].strip().split(",")[0]
        if not text:
            continue
        try:
            values.append(float(text))
        except ValueError as error:
            raise InvalidInput(f"Line {number} of {path} is {text!r}; allowed is one number of seconds.") from error
    found = np.array(values)
    if not len(found) or not np.isfinite(found).all() or (found < 0).any():
        raise InvalidInput(f"The file {path} has to hold numbers of seconds, one a line, none of them negative.")
    return found


def service_times(jobs: int, mean: float, spread: float, random: np.random.Generator) -> Seconds:
    """Return log-normal service times with a mean (s) and a relative spread (standard deviation / mean)."""
    if spread <= 0:
        return np.full(jobs, mean)
    variance = np.log1p(spread**2)
    times: Seconds = random.lognormal(np.log(mean) - variance / 2, np.sqrt(variance), jobs)
    return times
