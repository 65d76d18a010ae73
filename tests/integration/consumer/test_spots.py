"""Spots alone and spots in cells, end to end."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fixtures.consumer import Consumer, cells, labels_of, tiff


def spots_image(shape: tuple[int, int], places: list[tuple[float, float]]) -> NDArray[np.uint16]:
    y, x = np.mgrid[: shape[0], : shape[1]]
    light = sum(2000 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * 1.2**2)) for row, column in places)
    noise = np.random.default_rng(1).normal(0, 15, shape)
    return np.clip(light + 200 + noise, 0, 65535).astype(np.uint16)


PLACES = [(24.0, 24.0), (30.0, 20.0), (72.0, 72.0), (48.0, 48.0), (5.0, 90.0)]  # the last two lie between cells


def rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


def near(found: list[dict[str, str]], place: tuple[float, float]) -> dict[str, str]:
    return next(row for row in found if np.hypot(float(row["y"]) - place[0], float(row["x"]) - place[1]) < 1)


async def test_spots_alone(consumer: Consumer) -> None:
    job = await consumer.run("spot", tiff(spots_image((96, 96), PLACES)), "fish.tif")
    entries = await consumer.result(job)
    assert list(entries) == ["fish_0.csv", "fish_0.npy"]
    assert entries["fish_0.csv"].splitlines()[0] == b"x,y"
    found = rows(entries["fish_0.csv"])
    assert len(found) == len(PLACES)
    assert all(near(found, place) for place in PLACES)
    assert np.load(io.BytesIO(entries["fish_0.npy"])).shape == (len(PLACES), 2)


async def test_spots_in_cells(consumer: Consumer) -> None:
    nuclei, _truth = cells(96, 96)
    image = np.stack([spots_image((96, 96), PLACES), nuclei])
    job = await consumer.run("polaris", tiff(image), "fish.tif", {"dimension_order": "CXY"})
    entries = await consumer.result(job)
    assert list(entries) == ["fish_batch_0_feature_0.tif", "fish_0.csv"]
    labels, found = labels_of(entries["fish_batch_0_feature_0.tif"]), rows(entries["fish_0.csv"])
    assert entries["fish_0.csv"].splitlines()[0] == b"x,y,cellID0"
    for row, column in PLACES:
        assert int(near(found, (row, column))["cellID0"]) == labels[int(row), int(column)]
    assert near(found, (48, 48))["cellID0"] == "0"


async def test_tissue_gives_whole_cells_and_nuclei(consumer: Consumer) -> None:
    nuclei, _ = cells(96, 96)
    membranes = (nuclei // 2)[::-1]
    image = np.stack([spots_image((96, 96), PLACES), nuclei, membranes])
    job = await consumer.run(
        "polaris",
        tiff(image, photometric="minisblack"),
        "fish.tif",
        {"dimension_order": "CXY", "segmentation_type": "tissue"},
    )
    entries = await consumer.result(job)
    assert list(entries) == ["fish_batch_0_feature_0.tif", "fish_batch_0_feature_1.tif", "fish_0.csv"]
    assert entries["fish_0.csv"].splitlines()[0] == b"x,y,cellID0,cellID1"
    assert job.fields["model_used"].startswith("WholeCellSegmentation:")


async def test_segmentation_none_gives_the_table_alone(consumer: Consumer) -> None:
    image = spots_image((96, 96), PLACES)
    job = await consumer.run("polaris", tiff(image), "fish.tif", {"segmentation_type": "none"})
    entries = await consumer.result(job)
    assert list(entries) == ["fish_0.csv"]
    assert entries["fish_0.csv"].splitlines()[0] == b"x,y"


@pytest.mark.parametrize("options", [{"segmentation_type": "cell culture"}, {"segmentation_type": "tissue"}])
async def test_too_few_channels_fail_with_a_sentence(consumer: Consumer, options: dict[str, Any]) -> None:
    job = await consumer.run("polaris", tiff(spots_image((96, 96), PLACES)), "fish.tif", options)
    assert job.status == "failed"
    assert "channels (spots, nuclei" in job.fields["reason"]
