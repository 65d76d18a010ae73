"""From a claimed job to its pipeline: options, scratch folder, metrics, clean-up."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.consumer import metrics
from services.consumer.bench import Bench
from services.consumer.pipeline import Pipeline
from services.consumer.tools import Tools
from services.consumer.worker import Done, Failed, Outcome, Split
from shared.costs import Use, total
from shared.errors import InvalidInput, Misconfigured
from shared.jobs import Job


class Runner:
    """The worker's handler: gives each job to the pipeline of its type."""

    def __init__(self, pipelines: Mapping[str, Pipeline[Any]], bench: Bench) -> None:
        """Prepare for the job types that this worker serves."""
        self._pipelines = pipelines
        self._bench = bench

    async def __call__(self, job: Job) -> Outcome:
        """Do one attempt at a job; its scratch folder is gone afterwards, whatever happened."""
        waited = time.time() - int(job.fields["created_ms"]) / 1000
        if job.attempt == 1:
            metrics.wait_seconds.labels(job.type).observe(max(0.0, waited))
        scratch = self._bench.settings.scratch / self._bench.worker / f"{job.id.replace(':', '-')}-{job.attempt}"
        try:
            await asyncio.to_thread(scratch.mkdir, parents=True, exist_ok=True)
        except OSError as error:
            raise Misconfigured(f"The scratch folder {scratch} cannot be written: {error.strerror}.") from error
        try:
            outcome = await _with_use(self._pipelines[job.type], Tools(job, self._bench, scratch))
        finally:
            await asyncio.shield(asyncio.to_thread(_clear, scratch))
        if isinstance(outcome, Done):
            metrics.job_seconds.labels(job.type).observe(max(0.0, time.time() - int(job.fields["created_ms"]) / 1000))
        return outcome


def _clear(scratch: Path) -> None:
    """Remove a scratch folder: most hold some files and nothing else, which goes in half of rmtree's time."""
    try:
        with os.scandir(scratch) as entries:
            for entry in entries:
                os.unlink(entry.path)  # noqa: PTH108  # a Path would cost as much as the call
        scratch.rmdir()
    except OSError:
        shutil.rmtree(scratch, ignore_errors=True)


#: The fact that keeps what a job used until it was split; what its end tells includes it.
_UNTIL_SPLIT = "used_until_split"


async def _with_use(pipeline: Pipeline[Any], tools: Tools) -> Outcome:
    """Run a pipeline, and add to what its end tells what the job used, its parts included."""
    try:
        outcome = await pipeline.run(tools.job, tools)
    except InvalidInput as error:
        outcome = Failed(str(error))
    if isinstance(outcome, Split):
        return replace(outcome, facts={**outcome.facts, _UNTIL_SPLIT: json.dumps(tools.used.facts())})
    earlier: list[Use | None] = []
    if split := tools.job.fields.get(_UNTIL_SPLIT):
        earlier = [Use.of(json.loads(split)), *(Use.of(part.fields) for part in await tools.parts())]
    return replace(outcome, facts={**total((tools.used, *earlier)).facts(), **outcome.facts})
