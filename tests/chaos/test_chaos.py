"""Anything may be killed at any time: nothing is lost, nothing finishes twice, no result is wrong.

``KIOSK_CHAOS_JOBS`` sets the number of jobs; the suite runs a short form. ``KIOSK_CHAOS_REPORT`` names a file that
gets the figures as JSON.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from shared.errors import Retry
from shared.jobs import JobStore, NewJob
from shared.jobs.audit import audit
from tests.chaos.suite import Suite, the_jobs
from tests.chaos.verdict import verdict

JOBS = int(os.environ.get("KIOSK_CHAOS_JOBS", "600"))


@pytest.mark.chaos
@pytest.mark.timeout(150 + JOBS / 5)
async def test_nothing_is_lost_whatever_happens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = the_jobs(JOBS)
    began = time.monotonic()
    async with Suite(tmp_path) as suite:
        calm = asyncio.Event()
        rage = asyncio.create_task(suite.rage(calm))
        for start in range(0, len(jobs), 20):
            await suite.submit(jobs[start : start + 20])
            await _nearly_done(suite, jobs[: start + 20], most_open=200)
        await asyncio.wait({rage, asyncio.create_task(suite.everything_happened.wait())}, return_when="FIRST_COMPLETED")
        calm.set()
        await rage
        await _nearly_done(suite, jobs, most_open=0)
        result = await verdict(suite.store, jobs, suite.diary, suite.killed)
        result.seconds = time.monotonic() - began
        result.findings = [finding.sentence for finding in await audit(suite.store)]
        told = result.told(dict(suite.happened), suite.lease)
    if report := os.environ.get("KIOSK_CHAOS_REPORT"):
        Path(report).write_text(result.as_json() + "\n" + told + "\n")
    with capsys.disabled():
        print(f"\n{told}")
    assert result.clean, (result.lost[:5], result.finished_twice[:5], result.wrong[:5], result.findings[:5])
    assert result.executions >= result.jobs
    assert result.recoveries > 0


async def _nearly_done(suite: Suite, jobs: list[NewJob], most_open: int) -> None:
    """Wait until at most so many jobs are unfinished."""
    while await _open(suite.store, jobs) > most_open:
        await suite.pause(0.1)


async def _open(store: JobStore, jobs: list[NewJob]) -> int:
    try:
        found = await store.get_many([job.id for job in jobs])
    except Retry:
        return len(jobs)
    return sum(1 for job in found if job is not None and not job.final)
