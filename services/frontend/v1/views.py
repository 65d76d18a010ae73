"""From a job's hash to what API v1 tells of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from services.frontend.v1.models import Cost, JobEvent, JobView, Links
from shared.costs import Rates, Use, total
from shared.jobs import Job
from shared.jobs.model import percent
from shared.jobs.states import DONE

_STAGES = ("download", "preprocess", "prediction", "postprocess", "upload", "total")


def job_view(job: Job, rates: Rates | None, position: int | None = None) -> JobView:
    """Return what is told of a job; its use is worth what the rates say."""
    fields = job.fields
    return JobView(
        id=job.id,
        type=job.type,
        status=fields["status"],
        progress=percent(fields),
        name=fields.get("original_name", ""),
        file=fields.get("input_file_name", ""),
        options=json.loads(fields.get("options") or "{}"),
        model=fields.get("model", ""),
        model_version=fields.get("model_version", ""),
        axes=fields.get("dim_order", ""),
        priority=int(fields.get("priority", "0")),
        item_type=fields.get("item_type"),
        batch=fields.get("batch"),
        revived_from=fields.get("revived_from"),
        created_at=fields.get("created_at", ""),
        updated_at=fields.get("updated_at", ""),
        finished_at=fields.get("finished_at"),
        attempt=job.attempt,
        position=position,
        reason=fields.get("reason"),
        failures=_failures(fields),
        total_jobs=_whole(fields.get("total_jobs")),
        seconds=_seconds(fields),
        cost=cost_of([job], rates),
        links=_links(job.id, fields),
    )


def cost_of(jobs: Iterable[Job], rates: Rates | None) -> Cost | None:
    """Return what jobs used together and what that is worth; None where none of them has told."""
    uses = [use for job in jobs if (use := Use.of(job.fields)) is not None]
    return _cost(total(uses), rates) if uses else None


def _cost(use: Use, rates: Rates | None) -> Cost:
    return Cost(
        gpu_seconds=round(use.gpu_seconds, 6),
        cpu_seconds=round(use.cpu_seconds, 6),
        bytes_in=round(use.bytes_in),
        bytes_out=round(use.bytes_out),
        gpu=rates.gpu(use) if rates else None,
        cpu=rates.cpu(use) if rates else None,
        network=rates.network(use) if rates else None,
        total=rates.total(use) if rates else None,
        prices=rates.prices if rates else None,
        currency=rates.currency if rates else None,
    )


def job_event(job_id: str, fields: Mapping[str, str], rates: Rates | None) -> JobEvent:
    """Return what an event stream tells of a job, from the fields that the hub reads."""
    use = Use.of(fields)
    position, eta = fields.get("position"), fields.get("eta")
    return JobEvent(
        id=job_id,
        status=fields["status"],
        progress=percent(fields),
        position=int(position) if position else None,
        eta=float(eta) if eta else None,
        updated_at=fields.get("updated_at", ""),
        finished_at=fields.get("finished_at"),
        name=fields.get("original_name", ""),
        reason=fields.get("reason"),
        failures=_failures(fields),
        cost=None if use is None else _cost(use, rates),
        links=_links(job_id, fields),
    )


def _links(job_id: str, fields: Mapping[str, str]) -> Links:
    own = f"/api/v1/jobs/{job_id}"
    done = fields.get("status") == DONE
    return Links(
        self=own,
        events=f"{own}/events",
        result=f"{own}/result" if done and "output_url" in fields else None,
        preview=f"{own}/preview.png" if done and "preview_file_name" in fields else None,
        view=f"{own}/view" if done and "view_file_name" in fields else None,
        download=fields.get("output_url") if done else None,
    )


def _failures(fields: Mapping[str, str]) -> dict[str, str]:
    return dict(parse_qsl(fields.get("failures", ""), keep_blank_values=True))


def _seconds(fields: Mapping[str, str]) -> dict[str, float | list[float]]:
    found: dict[str, float | list[float]] = {}
    for stage in _STAGES:
        try:
            numbers = [float(text) for text in fields.get(f"{stage}_time", "").split(",") if text]
        except ValueError:
            continue
        if numbers:
            found[stage] = numbers[0] if len(numbers) == 1 else numbers
    return found


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None
