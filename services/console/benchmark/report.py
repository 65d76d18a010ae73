"""``kiosk benchmark report``: results, ours or those of the old suite, as a table and the figures people publish."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from services.console import output
from services.console.benchmark.results import Result, grouped, read, spread
from shared.errors import InvalidInput


def main(paths: Sequence[Path], folder: Path) -> int:
    """Print the table and draw the figures into a folder.

    Raises:
        InvalidInput: a file is no result of a benchmark, or a folder holds none.
    """
    if not paths:
        raise InvalidInput("Name the result files to report on, or their folder, as in `kiosk benchmark report bench`.")
    results = [read(file) for path in paths for file in _files(path)]
    show(results)
    from services.console.benchmark.figures import draw  # matplotlib takes a second to import

    for drawn in draw(results, folder):
        output.say(f"Drew {drawn}")
    return 0


def _files(path: Path) -> list[Path]:
    """Return a file itself, and of a folder the result files in it."""
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*jobs_*delay_*.json"))
    if not found:
        raise InvalidInput(f"The folder {path} holds no result of a benchmark (*jobs_*delay_*.json).")
    return found


def show(results: Sequence[Result]) -> None:
    """Print one line for each group of repeated runs."""
    rows = []
    for (gpus, images), runs in grouped(results).items():
        costs = [run.cost for run in runs if run.cost is not None]
        priced = sum(run.images for run in runs if run.cost is not None)
        rows.append(
            (
                "-" if gpus is None else gpus,
                images,
                len(runs),
                _told([run.seconds for run in runs], ".1f"),
                _told([run.throughput for run in runs], ".2f"),
                _told(costs, ".4g"),
                f"{1e6 * sum(costs) / priced:.2f}" if costs else "-",
            )
        )
    columns = ("GPUs", "images", "runs", "seconds", "images/s", "cost", "cost of 1,000,000 images")
    output.table("Benchmarks", columns, rows)


def _told(values: Sequence[float], form: str) -> str:
    """Return a mean, of several with their deviation; "-" for none."""
    if not values:
        return "-"
    mean, deviation = (format(value, form) for value in spread(values))
    return f"{mean} ± {deviation}" if len(values) > 1 else mean
