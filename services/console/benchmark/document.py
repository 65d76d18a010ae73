"""The result of a benchmark: the JSON document of the DeepCell Kiosk, and more beside it."""

from __future__ import annotations

import re
import secrets
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from services.console.benchmark.drive import Run
from services.console.benchmark.plan import Plan
from services.console.cost.nodes import Bill
from shared.version import VERSION

#: Times (s) that are floats, or for an archive lists of one float for each image.
TIMES = ("download_time", "preprocess_time", "prediction_time", "postprocess_time", "upload_time")
_NUMBERS = ("total_time", "total_jobs", "predict_retries", "cleanup_time", "children_upload_time", *TIMES)


def name_of(plan: Plan) -> str:
    """Return a fresh name for the result file: ``[<gpus>gpu_]<n>jobs_<delay>delay_<hex>.json``."""
    gpus = f"{plan.gpus}gpu_" if plan.gpus is not None else ""
    return f"{gpus}{plan.count}jobs_{plan.start_delay:g}delay_{secrets.token_hex(16)}.json"


def document(plan: Plan, run: Run, bill: Bill | None, prices: str = "") -> dict[str, Any]:
    """Return the document; without a bill its costs are empty texts."""
    jobs = [_record(plan, job) for job in run.jobs]
    costs = (bill.cpu_nodes, bill.gpu_nodes, bill.total) if bill else (None, None, None)
    return {
        "cpu_node_cost": _money(costs[0]),
        "gpu_node_cost": _money(costs[1]),
        "total_node_and_networking_costs": _money(costs[2]),
        "start_delay": plan.start_delay,
        "num_jobs": plan.count,
        "time_elapsed": run.elapsed,
        "job_data": jobs,
        "stages": {name: distribution(values) for name in TIMES if (values := _all(jobs, name))},
        "bytes": {
            "uploaded": run.uploaded,
            "downloaded": run.downloaded,
            "read": sum(_used(job, "bytes_in") for job in run.jobs),
            "written": sum(_used(job, "bytes_out") for job in run.jobs),
        },
        "gpu_seconds": 0.0 if plan.gpus == 0 else sum(_used(job, "gpu_seconds", "prediction_time") for job in run.jobs),
        "cpu_seconds": sum(_used(job, "cpu_seconds") for job in run.jobs),
        "attempts": sum(int(job.get("attempt") or 0) for job in run.jobs),
        "statuses": {word: sum(job["status"] == word for job in jobs) for word in ("done", "failed", "canceled")},
        "gpus": plan.gpus,
        "machine": plan.machine,
        "prices": prices if bill else "",
        "version": VERSION,
    }


def distribution(values: Sequence[float]) -> dict[str, float]:
    """Return mean, median, 95th percentile and largest of some times (s)."""
    ordered = sorted(values)
    rank = max(0, -(-95 * len(ordered) // 100) - 1)
    return {
        "mean": statistics.fmean(ordered),
        "p50": statistics.median(ordered),
        "p95": ordered[rank],
        "max": ordered[-1],
    }


def number(text: object) -> float | list[float] | None:
    """Return a field as a number; as a list where it holds one for each image of an archive; None where it is empty."""
    parts = [part for part in str("" if text is None else text).split(",") if part.strip()]
    try:
        values = [float(part) for part in parts]
    except ValueError:
        return None
    if not values:
        return None
    return values if "," in str(text) else values[0]


def flat(value: object) -> list[float]:
    """Return a field of a document as a list of numbers, whatever its form; files of the old suite hold texts."""
    if isinstance(value, list):
        return [single for part in value for single in flat(part)]
    if isinstance(value, int | float):
        return [float(value)]
    parsed = number(value)
    return [] if parsed is None else parsed if isinstance(parsed, list) else [parsed]


def _all(jobs: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [value for job in jobs for value in flat(job.get(name))]


def _used(job: Mapping[str, Any], *names: str) -> float:
    """Return the first of some fields that a job tells; an older server told the time of a stage only."""
    return next((sum(found) for name in names if (found := flat(job.get(name)))), 0.0)


def _record(plan: Plan, job: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {name: number(job.get(name)) for name in _NUMBERS}
    version = str(job.get("model_version") or plan.model_version)
    model = str(job.get("model") or plan.model_name)
    return {
        "input_file": job["input_file"],
        "status": job["status"],
        "download_url": job.get("output_url"),
        "created_at": job.get("created_at"),
        "finished_at": job.get("finished_at"),
        **numbers,
        "model": re.sub(r":$", "", f"{model}:{version}"),
        "preprocess": str(job.get("preprocess") or ""),
        "postprocess": str(job.get("postprocess") or ""),
        "reason": job.get("reason"),
        "job_id": job["job_id"],
    }


def _money(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
