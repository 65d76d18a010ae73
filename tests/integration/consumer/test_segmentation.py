"""Segmentation end to end: a file on disk to labels that are compared with what is in the picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from shared.jobs import JobStore, NewJob, Notifications
from shared.jobs.model import new_id
from tests.fixtures.consumer import Consumer, cells, labels_of, running_consumer, tiff

STANDINS = Path(__file__).parents[3] / "benchmarks" / "models"


def agreement(labels: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return the share of true objects that one label covers with an intersection over union above one half."""
    found = 0
    for number in range(1, int(truth.max()) + 1):
        inside = truth == number
        candidates, counts = np.unique(labels[inside], return_counts=True)
        best = max(zip(counts, candidates, strict=True), default=(0, 0))[1]
        found += bool(best) and np.sum(inside & (labels == best)) / np.sum(inside | (labels == best)) > 0.5
    return found / int(truth.max())


async def test_an_image_becomes_labels_at_its_own_size(consumer: Consumer) -> None:
    image, truth = cells(300, 240)
    job = await consumer.run("segmentation", tiff(image), "some cells.tif")
    entries = await consumer.result(job)
    assert list(entries) == ["some cells_batch_0_feature_0.tif"]
    labels = labels_of(entries["some cells_batch_0_feature_0.tif"])
    assert labels.shape == image.shape
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert agreement(labels, truth) > 0.9
    assert labels.max() == truth.max()
    assert job.fields["output_url"].startswith("http://kiosk.example/results/")
    assert job.fields["output_url"].endswith("/some%20cells.zip")
    for name in ("download_time", "preprocess_time", "prediction_time", "postprocess_time", "upload_time"):
        assert float(job.fields[name]) >= 0
    assert job.fields["failures"] == ""
    assert job.fields["progress"] == "100"


async def test_an_upload_that_shares_the_object_of_an_earlier_one_is_read_there(consumer: Consumer) -> None:
    image, truth = cells(96, 96)
    storage, store = consumer.bench.storage, consumer.bench.store
    await storage.put("uploads/first.tif", tiff(image))
    for name in ("uploads/first.tif", "uploads/second.tif"):
        await store.share("anonymous", "sum", ".tif", name, "cells.tif")
    facts = {"input_file_name": "uploads/second.tif", "original_name": "cells.tif", "options": "{}"}
    (answer,) = await store.submit(NewJob(new_id("segmentation"), facts, uses=("uploads/second.tif",)))
    (labels,) = (await consumer.result(await consumer.ended(answer.id))).values()
    assert labels_of(labels).max() == truth.max()


@pytest.mark.parametrize(
    ("order", "shape"), [("XYC", "yxc"), ("CXY", "cyx"), ("BXY", "byx"), ("BXYC", "byxc"), ("CXYB", "cyxb")]
)
async def test_every_dimension_order(consumer: Consumer, order: str, shape: str) -> None:
    image, truth = cells(96, 144)
    planes = np.stack([np.stack([image, np.roll(image, 5, 0)]), np.stack([np.roll(image, 9, 1), image])])  # b c y x
    wanted = [0 if axis in shape else None for axis in "bc"]
    part = planes[0] if "b" not in shape else planes
    part = part[0] if "c" not in shape and "b" not in shape else part[:, 0] if "c" not in shape else part
    axes = [axis for axis in "bcyx" if axis in shape]
    stored = np.transpose(part, [axes.index(axis) for axis in shape])
    job = await consumer.run("segmentation", tiff(stored), "image.tif", {"dimension_order": order, "channels": [0]})
    entries = await consumer.result(job)
    assert len(entries) == (2 if wanted[0] == 0 else 1)
    assert agreement(labels_of(next(iter(entries.values()))), truth) > 0.9
    assert job.fields["dim_order"] == order


@pytest.mark.parametrize(("option", "expected"), [("", 0.5), ("0.65", 0.65)])
async def test_the_labels_carry_the_pixel_size_that_was_used(consumer: Consumer, option: str, expected: float) -> None:
    about = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5}
    file = tiff(cells(96, 96)[0], ome=True, metadata=about)
    job = await consumer.run("segmentation", file, "image.ome.tif", {"pixel_size_um": option})
    (labels,) = (await consumer.result(job)).values()
    with tifffile.TiffFile(io.BytesIO(labels)) as opened:
        assert f'PhysicalSizeX="{expected}"' in str(opened.ome_metadata)
    assert float(job.fields["scale"]) == pytest.approx(expected / 0.65, rel=1e-4)


async def test_chosen_channels_become_features(consumer: Consumer) -> None:
    image, truth = cells(96, 144)
    both = np.stack([np.zeros_like(image), image])
    job = await consumer.run("segmentation", tiff(both), "two.tif", {"dimension_order": "CXY", "channels": "0,1"})
    entries = await consumer.result(job)
    assert list(entries) == ["two_batch_0_feature_0.tif", "two_batch_0_feature_1.tif"]
    assert labels_of(entries["two_batch_0_feature_0.tif"]).max() == 0
    assert agreement(labels_of(entries["two_batch_0_feature_1.tif"]), truth) > 0.9


async def test_the_channel_that_shows_something_is_found(consumer: Consumer) -> None:
    image, truth = cells(96, 144)
    both = np.stack([np.zeros_like(image), image])
    job = await consumer.run("segmentation", tiff(both), "two.tif", {"dimension_order": "CXY"})
    entries = await consumer.result(job)
    assert job.fields["channels"] == "1"
    assert agreement(labels_of(next(iter(entries.values()))), truth) > 0.9


async def test_a_model_of_two_channels_reads_them_together_and_gives_each_kind_of_object(consumer: Consumer) -> None:
    nuclei, truth = cells(192, 240)
    cytoplasm = cv2.GaussianBlur(cv2.dilate(nuclei, np.ones((9, 9), np.uint8)), (0, 0), 1.0)
    image = np.stack([cytoplasm, np.zeros_like(nuclei), nuclei])
    options = {"dimension_order": "CXY", "channels": "2,0", "scale": 1}
    job = await consumer.run(
        "segmentation", tiff(image, photometric="minisblack"), "both.tif", options, model="WholeCellSegmentation"
    )
    entries = await consumer.result(job)
    assert list(entries) == ["both_batch_0_feature_0.tif", "both_batch_0_feature_1.tif"]
    whole, inner = (labels_of(entry) for entry in entries.values())
    assert agreement(inner, truth) > 0.8
    assert whole.max() > 0.8 * truth.max()
    assert job.fields["channels"] == "2,0"


async def test_a_model_of_two_channels_says_which_are_missing(consumer: Consumer) -> None:
    image = np.stack([cells(64, 64)[0]] * 3)
    for channels, what in (("", "the image has 3"), ("1", "1 were chosen")):
        options = {"dimension_order": "CXY", "channels": channels}
        job = await consumer.run(
            "segmentation", tiff(image, photometric="minisblack"), "image.tif", options, model="WholeCellSegmentation"
        )
        assert job.status == "failed"
        assert job.fields["reason"].startswith("The model WholeCellSegmentation reads 2 channels (nuclear, membrane)")
        assert what in job.fields["reason"]


async def test_an_image_of_many_blocks_has_no_seams(
    store: JobStore, notifications: Notifications, tmp_path: Path
) -> None:
    """The stand-in's maps follow the pixels alone, so that a split object could come from the stitching only."""
    image, truth = cells(2300, 2400, spacing=50)
    async with running_consumer(store, notifications, tmp_path, f"onnx://{STANDINS}") as consumer:
        job = await consumer.run("segmentation", tiff(image), "large.tif", {"scale": 1}, model="Standin")
        labels = labels_of(next(iter((await consumer.result(job)).values())))
    assert labels.max() == truth.max()
    assert agreement(labels[:400], truth[:400]) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"channels": [3]}, "Channel 3 was chosen, but the image has one channel, 0."),
        ({"dimension_order": "XYZW"}, "Dimension order 'XYZW' is not known"),
        ({"scale": 1000}, "The option scale is wrong"),
    ],
)
async def test_wrong_options_fail_with_a_sentence(consumer: Consumer, options: dict[str, Any], says: str) -> None:
    job = await consumer.run("segmentation", tiff(cells(64, 64)[0]), "image.tif", options)
    assert job.status == "failed"
    assert job.fields["reason"].startswith(says)
    assert job.fields["losses"] == "0"


async def test_an_unknown_model_fails_with_the_names_of_those_there_are(consumer: Consumer) -> None:
    job = await consumer.run("segmentation", tiff(cells(64, 64)[0]), "image.tif", model="Unknown")
    assert job.status == "failed"
    assert "NuclearSegmentation" in job.fields["reason"]


async def test_nothing_is_left_in_the_scratch_folder(consumer: Consumer) -> None:
    await consumer.run("segmentation", tiff(cells(64, 64)[0]), "image.tif")
    folder = consumer.bench.settings.scratch / "consumer-1"
    assert list(folder.iterdir()) == []
