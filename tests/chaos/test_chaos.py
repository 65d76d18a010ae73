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
from shared.jobs import JobStore
from shared.jobs.audit import audit
from tests.chaos.client import Accepted, Client, the_jobs
from tests.chaos.suite import Suite
from tests.chaos.verdict import verdict

JOBS = int(os.environ.get("KIOSK_CHAOS_JOBS", "600"))


@pytest.mark.chaos
@pytest.mark.timeout(600 + JOBS / 5)
async def test_nothing_is_lost_whatever_happens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = the_jobs(JOBS)
    jobs: list[Accepted] = []
    began = time.monotonic()
    async with (
        Suite(tmp_path) as suite,
        Client(suite.url, suite.store, suite.storage) as client,
        asyncio.TaskGroup() as group,  # what ends the rage ends the run
    ):
        calm = asyncio.Event()
        rage = group.create_task(suite.rage(calm))
        for start in range(0, len(wanted), 20):
            jobs += await client.submit(wanted[start : start + 20])
            await _nearly_done(suite, jobs, most_open=200)
        await suite.everything_happened.wait()
        calm.set()
        await rage
        await _nearly_done(suite, jobs, most_open=0)
        suite.happened["requests repeated"] = client.repeated
        result = await verdict(suite, jobs)
        result.seconds = time.monotonic() - began
        result.findings = [finding.sentence for finding in await audit(suite.store)]
        told = result.told(dict(suite.happened), suite.lease)
    if report := os.environ.get("KIOSK_CHAOS_REPORT"):
        Path(report).write_text(result.as_json() + "\n" + told + "\n")
    with capsys.disabled():
        print(f"\n{told}")
    assert result.clean, result.faults()
    assert result.executions >= result.jobs
    assert result.recoveries > 0


async def _nearly_done(suite: Suite, jobs: list[Accepted], most_open: int) -> None:
    """Wait until at most so many jobs are unfinished."""
    while await _open(suite.store, jobs) > most_open:
        await suite.pause(0.1)


async def _open(store: JobStore, jobs: list[Accepted]) -> int:
    try:
        found = await store.get_many([job.id for job in jobs])
    except Retry:
        return len(jobs)
    return sum(1 for job in found if job is not None and not job.final)
