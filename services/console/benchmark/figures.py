"""The figures of a report, as SVG and PNG: colours that colour-blind people tell apart (Okabe and Ito, 2008)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from services.console.benchmark.report import Result, grouped, spread

mpl.use("Agg")
from matplotlib import pyplot as plt  # the backend is chosen before

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MARKERS = "osD^vPX*"


def draw(results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw time, throughput and cost by images and GPUs, and time by stage; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    style = {"axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "cellkiosk", "font.size": 10}
    with plt.rc_context(style):
        figures = {
            "time": _lines(results, lambda r: r.seconds / 60, "minutes"),
            "throughput": _lines(results, lambda r: r.throughput, "images/s"),
            "stages": _stages(results),
        }
        if any(result.cost is not None for result in results):
            figures["cost"] = _lines(results, lambda r: r.cost, "cost of the run (price list's currency)")
    drawn = []
    for name, figure in figures.items():
        for ending in ("svg", "png"):
            path = folder / f"{name}.{ending}"
            figure.savefig(path, dpi=150, metadata={"Date": None} if ending == "svg" else None)
            drawn.append(path)
        plt.close(figure)
    return drawn


def _lines(results: Sequence[Result], value: Callable[[Result], float | None], title: str) -> Any:
    """One line for each number of GPUs over the number of images, with the deviation of repeated runs."""
    figure, axes = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
    lines: dict[int | None, list[tuple[int, float, float]]] = {}
    for (gpus, images), runs in grouped(results).items():
        values = [v for run in runs if (v := value(run)) is not None]
        if values:
            lines.setdefault(gpus, []).append((images, *spread(values)))
    for number, (gpus, points) in enumerate(lines.items()):
        x, y, deviation = zip(*points, strict=True)
        label = "GPUs not told" if gpus is None else f"{gpus} GPU{'' if gpus == 1 else 's'}"
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        axes.errorbar(x, y, yerr=deviation, label=label, color=colour, marker=marker, capsize=3)
    axes.set(xlabel="images", ylabel=title, xscale="log")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def _stages(results: Sequence[Result]) -> Any:
    """Mean seconds of each stage, stacked, one bar for each group of runs."""
    figure, axes = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
    groups = grouped(results)
    names = list(dict.fromkeys(stage for result in results for stage in result.stages))
    labels = [f"{images}" if gpus is None else f"{images}\n{gpus} GPU" for gpus, images in groups]
    bottom = [0.0] * len(groups)
    for number, name in enumerate(names):
        heights = [spread([run.stages.get(name, 0.0) for run in runs])[0] for runs in groups.values()]
        axes.bar(range(len(groups)), heights, bottom=bottom, label=name, color=COLOURS[number % len(COLOURS)])
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.set_xticks(range(len(groups)), labels)
    axes.set(xlabel="images", ylabel="mean seconds of an image")
    axes.legend(frameon=False)
    return figure
