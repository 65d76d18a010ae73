"""How soon the job of a worker that was killed runs again: with real processes, and nothing else going wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shared.jobs import NewJob
from shared.jobs.model import new_id
from tests.chaos.suite import Suite

pytestmark = pytest.mark.chaos
LEASE = 6.0  # seconds; half of it is what a busy machine may need beside


async def test_the_job_of_a_killed_worker_runs_again_within_one_and_a_half_leases(tmp_path: Path) -> None:
    async with Suite(tmp_path, workers=2, janitors=1, lease=LEASE) as suite:
        job_id = new_id("poison")  # kills its worker when it starts
        await suite.store.submit(NewJob(job_id))
        async with asyncio.timeout(120):
            while len(starts := _starts(suite.diary, job_id)) < 2:
                await suite.pause(0.05)
    assert starts[1] - starts[0] <= 1.5 * LEASE


def _starts(diary: Path, job_id: str) -> list[float]:
    """When attempts of a job began, in s of the machine's clock."""
    lines = [line.split() for line in diary.read_text().splitlines()] if diary.exists() else []
    return [float(line[-1]) for line in lines if line[:2] == ["start", job_id]]
