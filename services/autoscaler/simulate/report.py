"""What came of a simulation: a table, JSON, and plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from services.autoscaler.simulate.compare import Comparison, Row
from shared.errors import InvalidInput, Misconfigured

_COLOURS = ("#0072b2", "#d55e00", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#999999", "#000000")


def table(comparison: Comparison) -> str:
    """Return the comparison as text."""
    head = ("policy", "wait p50", "wait p99", "empty at", "GPU-hours", "US$", "begun twice", "to the bound")
    rows = [head, *(_cells(comparison, row) for row in comparison.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(r, widths, strict=True)))
        for r in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    work, load = comparison.workload, comparison.workload.work / 3600
    title = f"{work.name}: {len(work.at):,} jobs, {load:.1f} replica-hours of work"
    notes = []
    if any(row.equal_wait for row in comparison.rows):
        notes.append("= : the cheapest setting whose p99 wait is no longer than ours.")
    if any(not row.possible for row in comparison.rows):
        notes.append("! : no setting reaches our p99 wait; the fastest one found is shown.")
    return "\n".join([title, "", *(line.rstrip() for line in lines), *([""] if notes else []), *notes])


def _cells(comparison: Comparison, row: Row) -> tuple[str, ...]:
    mark = " =" if row.equal_wait and row.outcome else " !" if not row.possible else ""
    ratio = f"{row.node_hours / comparison.optimum:.2f} x" if comparison.optimum else "-"
    if row.outcome is None:
        return row.name, "-", "as ours", "-", f"{row.gpu_hours:.1f}", f"{row.money:.2f}", "-", ratio
    outcome = row.outcome
    return (
        row.name + mark,
        span(outcome.wait(50)),
        span(outcome.wait(99)),
        span(outcome.empty_at),
        f"{row.gpu_hours:.1f}",
        f"{row.money:.2f}",
        str(outcome.redone),
        ratio,
    )


def span(seconds: float) -> str:
    """Return a time span for people."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.2f} h"


def plain(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as plain values; times in s."""
    return {
        "workload": comparison.workload.name,
        "jobs": len(comparison.workload.at),
        "work_hours": comparison.workload.work / 3600,
        "bound_node_hours": comparison.optimum,
        "policies": [
            {
                "policy": row.name,
                "equal_wait": row.equal_wait,
                "reaches_wait": row.possible,
                "gpu_hours": row.gpu_hours,
                "money": row.money,
                "wait_p50": row.outcome.wait(50) if row.outcome else None,
                "wait_p99": row.outcome.wait(99) if row.outcome else None,
                "empty_at": row.outcome.empty_at if row.outcome else None,
                "begun_twice": row.outcome.redone if row.outcome else None,
            }
            for row in comparison.rows
        ],
    }


def plot(comparison: Comparison, path: Path) -> None:
    """Draw replicas and backlog over time, and money against wait, as PNG or SVG by the file's name.

    Raises:
        InvalidInput: the name ends otherwise.
        Misconfigured: matplotlib is not installed.
    """
    if path.suffix not in (".png", ".svg"):
        raise InvalidInput(f"The plot {path.name} has to end in .png or .svg.")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Misconfigured("Plots need matplotlib, which is not installed here.") from error

    figure = Figure(figsize=(9, 9), layout="constrained")
    sizes, backlog, costs = figure.subplots(3, 1)
    shown = [row for row in comparison.rows if row.outcome is not None]
    for colour, row in zip(_COLOURS, shown, strict=False):
        outcome = row.outcome
        assert outcome is not None
        sizes.step(outcome.sizes[:, 0] / 3600, outcome.sizes[:, 1], where="post", label=row.name, color=colour, lw=1)
        backlog.plot(outcome.backlog[:, 0] / 3600, outcome.backlog[:, 1], color=colour, lw=1)
        costs.scatter(max(outcome.wait(99), 0.1), row.money, color=colour, s=50, label=row.name, zorder=2)
    if comparison.optimum is not None:
        least = comparison.optimum * comparison.cluster.price
        costs.axhline(least, color="black", ls=":", lw=1, label="clairvoyant lower bound at our wait")
    sizes.set(title=comparison.workload.name, ylabel="replicas asked for", xlabel="hours")
    backlog.set(ylabel="jobs waiting", xlabel="hours", yscale="symlog")
    costs.set(xlabel="p99 wait in s", ylabel="US$", xscale="log")
    costs.legend(fontsize=8)
    for axes in (sizes, backlog, costs):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise InvalidInput(f"The plot cannot be written to {path}: {error.strerror}.") from error
