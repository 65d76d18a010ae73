"""The figures of a report, as SVG and PNG: colours that colour-blind people tell apart (Okabe and Ito, 2008)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from services.console.benchmark.results import Result, grouped, spread

mpl.use("Agg")
from matplotlib import pyplot as plt  # the backend is chosen before
from matplotlib.ticker import LogLocator

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MARKERS = "osD^vPX*"
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "--", "oo")
#: Inches.
SIZE = (5.6, 3.6)
#: s beyond which a run is told in minutes.
_MINUTES = 300.0


def draw(results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw time, throughput and cost by images and GPUs, and time by stage; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    style = {"axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "cellkiosk", "font.size": 10}
    with plt.rc_context(style):
        figures = {
            "time": _time(results),
            "throughput": _lines(results, lambda r: r.throughput, "images/s"),
            "stages": _stages(results),
        }
        if any(result.cost is not None for result in results):
            figures["cost"] = _lines(results, lambda r: r.cost, "cost of the run (currency of the prices)", log=True)
    drawn = []
    for name, figure in figures.items():
        for ending in ("svg", "png"):
            path = folder / f"{name}.{ending}"
            figure.savefig(path, dpi=150, metadata={"Date": None} if ending == "svg" else None)
            drawn.append(path)
        plt.close(figure)
    return drawn


def _time(results: Sequence[Result]) -> Any:
    if max(result.seconds for result in results) > _MINUTES:
        return _lines(results, lambda r: r.seconds / 60, "minutes", log=True)
    return _lines(results, lambda r: r.seconds, "seconds", log=True)


def _lines(results: Sequence[Result], value: Callable[[Result], float | None], title: str, *, log: bool = False) -> Any:
    """One line for each number of GPUs over the number of images, with the deviation of repeated runs."""
    figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
    lines: dict[int | None, list[tuple[int, float, float]]] = {}
    for (gpus, images), runs in grouped(results).items():
        values = [v for run in runs if (v := value(run)) is not None]
        if values:
            lines.setdefault(gpus, []).append((images, *spread(values)))
    for number, (gpus, points) in enumerate(lines.items()):
        x, y, deviation = zip(*points, strict=True)
        # Below the mean a bar must stay above 0, which a logarithmic axis does not have.
        down = [min(d, 0.9 * mean) for d, mean in zip(deviation, y, strict=True)]
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        axes.errorbar(x, y, yerr=(down, deviation), label=_gpus(gpus), color=colour, marker=marker, capsize=4)
    axes.set(xlabel="images", ylabel=title, xscale="log", yscale="log" if log else "linear")
    axes.margins(x=0.08, y=0.12)
    if log:
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))  # powers of ten alone would name too few places
        axes.yaxis.set_minor_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    _name_images(axes, sorted({images for points in lines.values() for images, *_ in points}))
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, title=_repeats(results))
    return figure


def _name_images(axes: Any, images: Sequence[int]) -> None:
    """Write the numbers of images under the axis as they are; those too near to the one before are left out."""
    shown: list[int] = []
    for number in images:
        if not shown or number >= 1.6 * shown[-1]:
            shown.append(number)
    axes.set_xticks(shown, [f"{number:,}" for number in shown])
    axes.set_xticks([], minor=True)


def _gpus(gpus: int | None) -> str:
    return "GPUs not told" if gpus is None else f"{gpus} GPU{'' if gpus == 1 else 's'}"


def _repeats(results: Sequence[Result]) -> str:
    """Say what the error bars are."""
    runs = [len(group) for group in grouped(results).values()]
    if max(runs) == 1:
        return "one run each"
    several = f"{max(runs)}" if min(runs) == max(runs) else f"{min(runs)} to {max(runs)}"
    return f"mean ± standard deviation\nof {several} runs"


def _stages(results: Sequence[Result]) -> Any:
    """Mean seconds of each stage, stacked, one bar for each group of runs, with the deviation of their sums."""
    groups = grouped(results)
    figure, axes = plt.subplots(figsize=(max(SIZE[0], 2.6 + 0.8 * len(groups)), SIZE[1]), layout="constrained")
    names = list(dict.fromkeys(stage for result in results for stage in result.stages))
    places = range(len(groups))
    bottom = [0.0] * len(groups)
    for number, name in enumerate(names):
        heights = [spread([run.stages.get(name, 0.0) for run in runs])[0] for runs in groups.values()]
        colour, hatch = COLOURS[number % len(COLOURS)], HATCHES[number % len(HATCHES)]
        look = {"label": name, "color": colour, "hatch": hatch, "edgecolor": "white", "width": 0.6}
        axes.bar(places, heights, bottom=bottom, **look)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    deviation = [spread([sum(run.stages.values()) for run in runs])[1] for runs in groups.values()]
    axes.errorbar(places, bottom, yerr=deviation, fmt="none", ecolor="black", capsize=4)
    axes.set_xticks(places, [f"{images:,}\n{_gpus(gpus)}" for gpus, images in groups])
    axes.set(xlabel="images", ylabel="mean seconds of an image in each stage")
    handles, labels = axes.get_legend_handles_labels()
    # In the order in which they stand, beside the bars.
    axes.legend(handles[::-1], labels[::-1], frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
