"""The consumer with a real Triton server: results through gRPC, and a server that comes late."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.jobs import JobStore, Notifications
from tests.fixtures.consumer import cells, labels_of, running_consumer, tiff
from tests.fixtures.triton import Triton, free_ports, running_triton


async def test_an_image_goes_through_triton(
    store: JobStore, notifications: Notifications, triton: Triton, tmp_path: Path
) -> None:
    image, truth = cells(192, 192)
    async with running_consumer(store, notifications, tmp_path, triton.url) as consumer:
        job = await consumer.run("segmentation", tiff(image), "cells.tif")
        entries = await consumer.result(job)
    assert labels_of(entries["cells_batch_0_feature_0.tif"]).max() == truth.max()
    assert job.fields["model_used"] == "NuclearSegmentation:1"


@pytest.mark.usefixtures("triton_environment")
async def test_a_job_waits_for_a_model_server_that_is_away(
    store: JobStore, notifications: Notifications, model_repository: Path, tmp_path: Path
) -> None:
    ports = free_ports(3)
    grpc = f"grpc://127.0.0.1:{ports[0]}"
    async with running_consumer(store, notifications, tmp_path, grpc) as consumer:
        job_id = await consumer.submit("segmentation", tiff(cells(96, 96)[0]), "cells.tif")
        with running_triton(model_repository, tmp_path / "triton.log", ports=(ports[0], ports[1], ports[2])):
            job = await consumer.ended(job_id)
    assert job.status == "done", job.fields.get("reason")
    assert job.fields["losses"] == "0"


async def test_without_a_model_server_a_job_fails_with_a_sentence_after_its_attempts(
    store: JobStore, notifications: Notifications, tmp_path: Path
) -> None:
    url = f"grpc://127.0.0.1:{free_ports(1)[0]}"
    patience = {"url": url, "patience": 0.2}
    async with running_consumer(store, notifications, tmp_path, url, model_server=patience) as consumer:
        job = await consumer.run("segmentation", tiff(cells(96, 96)[0]), "cells.tif")
    assert job.status == "failed"
    assert job.fields["losses"] == "3"
    assert "The model server gave no result within" in job.fields["reason"]
    assert "Traceback" not in job.fields["reason"]
