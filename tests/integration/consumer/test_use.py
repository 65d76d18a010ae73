"""What jobs used: measured by the consumer, told in each job and summed by owner and day."""

from __future__ import annotations

import asyncio
import datetime as dt
import time

import pytest

from shared.costs import Use, total
from shared.jobs import Job
from tests.fixtures.consumer import Consumer, cells, tiff
from tests.integration.consumer.test_archive import zipped


def use(job: Job) -> Use:
    found = Use.of(job.fields)
    assert found is not None, job.fields
    return found


async def test_jobs_at_once_share_the_time_of_the_model_server(consumer: Consumer) -> None:
    image = tiff(cells(96, 96)[0])
    began = time.monotonic()
    jobs = await asyncio.gather(*(consumer.run("segmentation", image, f"{n}.tif") for n in range(6)))
    elapsed = time.monotonic() - began
    used = [use(job) for job in jobs]
    assert all(each.gpu_seconds > 0 and each.cpu_seconds > 0 and each.bytes_out > 0 for each in used)
    assert [each.bytes_in for each in used] == [len(image)] * 6
    assert total(used).gpu_seconds <= elapsed


async def test_an_archive_has_used_what_its_parts_used_and_more(consumer: Consumer) -> None:
    image = tiff(cells(96, 96)[0])
    content = zipped({"1.tif": image, "2.tif": image, "bad.tif": b"no image"})
    job = await consumer.run("archive", content, "all.zip", item_type="segmentation")
    store = consumer.bench.store
    parts = [part for part in await store.get_many(await store.children(job.id)) if part is not None]
    inner = total(use(part) for part in parts)
    assert use(job).gpu_seconds == pytest.approx(inner.gpu_seconds, abs=1e-5)
    assert use(job).cpu_seconds > inner.cpu_seconds > 0
    assert use(job).bytes_in > len(content) + inner.bytes_in
    assert use(job).bytes_out > inner.bytes_out


async def test_each_owners_days_are_summed_and_parts_count_once(consumer: Consumer) -> None:
    image = tiff(cells(96, 96)[0])
    days = [dt.datetime.now(dt.UTC).date()]
    jobs = [
        await consumer.run("segmentation", image, "1.tif"),
        await consumer.run("segmentation", b"no image", "2.tif"),
        await consumer.run("archive", zipped({"3.tif": image}), "all.zip", item_type="segmentation"),
    ]
    assert [job.status for job in jobs] == ["done", "failed", "done"]
    days = sorted({*days, dt.datetime.now(dt.UTC).date()})
    told = [(await consumer.bench.store.usage(day)).get("anonymous", {}) for day in days]
    assert sum(day.get("jobs", 0) for day in told) == 3
    summed = total(Use.of(day) for day in told)
    expected = total(use(job) for job in jobs)
    assert summed.gpu_seconds == pytest.approx(expected.gpu_seconds)
    assert summed.cpu_seconds == pytest.approx(expected.cpu_seconds)
    assert summed.bytes_in == expected.bytes_in
