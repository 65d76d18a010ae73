"""The Python API against a real frontend; a stand-in completes the jobs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from cellkiosk import AsyncClient, BadFile, Client, JobCanceled, JobFailed, NotFound, Refused, Unreachable
from tests.fixtures.frontend import Served
from tests.integration.client.conftest import LABELS

R = TypeVar("R")


async def test_an_image_becomes_labels(client: AsyncClient, image: Path) -> None:
    sent: list[tuple[int, int]] = []
    job = await client.submit(image, "segmentation", {"dimension_order": "YX"}, progress=lambda *at: sent.append(at))
    assert job.info is not None
    assert (job.info.type, job.info.name) == ("segmentation", "cells.tif")
    assert sent[-1] == (image.stat().st_size,) * 2
    labels = await (await job.wait()).labels()
    assert np.array_equal(labels, LABELS)
    assert job.info.status == "done"
    assert job.info.progress == 100


async def test_the_events_of_a_job_end_with_its_end(client: AsyncClient, image: Path) -> None:
    job = await client.submit(image)
    events = [event async for event in job.watch()]
    assert events[-1].status == "done"
    assert all(event.id == job.id for event in events)
    assert [event.status for event in events if event.final] == ["done"]
    assert [event.progress for event in events] == sorted(event.progress for event in events)


async def test_many_jobs_are_watched_together(client: AsyncClient, image: Path) -> None:
    jobs = [await client.submit(image, batch="0" * 31 + "1") for _ in range(5)]
    ended = [event.id async for event in client.watch(jobs) if event.final]
    assert sorted(ended) == sorted(job.id for job in jobs)
    assert {info.id async for info in client.jobs(status="done")} == {job.id for job in jobs}
    assert [info async for info in client.jobs(type="mesmer")] == []


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "file", "array"])
async def test_sources_of_every_kind(client: AsyncClient, image: Path, kind: str) -> None:
    with image.open("rb") as file:
        source = {
            "path": image,
            "text": str(image),
            "bytes": image.read_bytes(),
            "file": file,
            "array": np.zeros((5, 20, 30), np.float32),
        }[kind]
        job = await client.submit(source, "segmentation")  # type: ignore[arg-type]
    assert (await job.wait()).info.status == "done"  # type: ignore[union-attr]


async def test_a_file_is_uploaded_once_for_two_jobs(client: AsyncClient, image: Path) -> None:
    file = await client.upload(image, "other.tif")
    first, second = await client.submit(file, "segmentation"), await client.submit(file, "mesmer")
    assert first.info is not None
    assert first.info.raw["file"] == second.info.raw["file"] == file.key  # type: ignore[union-attr]
    assert first.info.name == "other.tif"


async def test_the_result_is_a_file(client: AsyncClient, image: Path, tmp_path: Path) -> None:
    job = await (await client.submit(image)).wait()
    (tmp_path / "out").mkdir()
    told: list[tuple[int, int]] = []
    path = await job.result(tmp_path / "out", progress=lambda *at: told.append(at))
    assert path == tmp_path / "out/cells.zip"
    assert told[-1] == (path.stat().st_size,) * 2
    assert list(await job.label_images()) == ["cells_batch_0_feature_0.tif"]
    with pytest.raises(BadFile, match="cannot be written"):
        await job.result(tmp_path / "nowhere/x.zip")
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["cells.zip"]


async def test_what_is_refused_is_told(client: AsyncClient, image: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("only text")
    (tmp_path / "empty.tif").write_bytes(b"")
    for source, code in [(tmp_path / "text.png", "not-an-image"), (tmp_path / "empty.tif", "empty-file")]:
        with pytest.raises(Refused) as caught:
            await client.submit(source)
        assert caught.value.code == code
    with pytest.raises(Refused, match="job type"):
        await client.submit(image, "nonsense")
    with pytest.raises(Refused, match="scale"):
        await client.submit(image, "segmentation", {"scale": 1000})
    with pytest.raises(BadFile, match="cannot be read: No such file"):
        await client.submit(tmp_path / "none.tif")
    with pytest.raises(NotFound, match="no such job"):
        await client.job("segmentation:" + "0" * 32).refresh()
    with pytest.raises(NotFound):
        await client.job("segmentation:" + "0" * 32).wait()


async def test_a_canceled_job_says_so(served: Served, image: Path) -> None:
    async with AsyncClient(served.url) as client:
        job = await client.submit(image)
        waiting = asyncio.create_task(job.wait())
        assert await job.cancel() is True
        with pytest.raises(JobCanceled) as caught:
            await waiting
        assert caught.value.job_id == job.id
        with pytest.raises(JobCanceled):
            await job.labels()
        assert await job.cancel() is False


async def test_a_failed_job_gives_its_reason(served: Served, image: Path) -> None:
    async with AsyncClient(served.url) as client:
        job = await client.submit(image)
        (claimed,) = await served.worker.claim()
        await served.store.fail("stand-in", claimed.held, "The image has no cells at all.")
        with pytest.raises(JobFailed, match="no cells at all"):
            await job.wait()


async def test_a_server_that_is_away_is_told_in_a_sentence() -> None:
    async with AsyncClient("http://127.0.0.1:1", patience=0.2) as client:
        with pytest.raises(Unreachable, match=r"at http://127\.0\.0\.1:1 does not answer: connection refused\. Is it"):
            await client.models()
    with pytest.raises(BadFile, match="must begin with http"):
        AsyncClient("ftp://x")


async def test_models_and_job_types(client: AsyncClient) -> None:
    assert await client.models() == {"NuclearSegmentation": ["1", "2"], "MultiplexSegmentation": ["9"]}
    kinds = await client.job_types()
    assert [kind.name for kind in kinds] == ["segmentation", "mesmer"]
    assert "scale" in kinds[0].options["properties"]


async def test_before_any_worker_has_told_its_types_a_sentence_says_so(served: Served, image: Path) -> None:
    await served.store.redis.delete(f"{served.store.prefix}types")
    async with AsyncClient(served.url) as client:
        with pytest.raises(Refused, match="No worker has told yet what can be done here"):
            await client.submit(image)


async def in_thread(call: Callable[[], R]) -> R:
    return await asyncio.to_thread(call)


async def test_the_same_without_await(working: Served, image: Path, tmp_path: Path) -> None:
    def program() -> list[str]:
        with Client(working.url, patience=10) as kiosk:
            job = kiosk.submit(str(image), "segmentation")
            events = [event.status for event in job.watch()]
            assert np.array_equal(job.labels(), LABELS)
            assert job.refresh().status == "done"
            assert job.wait().result(tmp_path / "r.zip").exists()
            others = [kiosk.submit(image) for _ in range(2)]
            assert {event.id for event in kiosk.watch(others)} == {other.id for other in others}
            assert next(iter(kiosk.jobs())).id == others[1].id
            assert kiosk.job(job.id).cancel() is False
            job.expire(None)
            with pytest.raises(Refused):
                kiosk.submit(image, "nonsense")
            return events

    assert (await in_thread(program))[-1] == "done"
    assert "cellkiosk" not in [thread.name for thread in threading.enumerate()]


async def test_an_iteration_left_early_closes_its_stream(served: Served, image: Path) -> None:
    def program() -> None:
        with Client(served.url) as kiosk:
            for event in kiosk.submit(image).watch():
                assert event.status == "new"
                break

    await in_thread(program)
