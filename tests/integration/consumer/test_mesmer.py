"""Whole cells and nuclei end to end, in the form that analysis programs expect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.triton.training.cells import cells_scene
from tests.fixtures.consumer import Consumer, labels_of, tiff
from tests.integration.consumer.test_segmentation import agreement


def tissue(size: int = 192) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """Return an image, uint16 (2, H, W) of nuclei and membranes, and its truth, int32 (2, H, W): cells, nuclei."""
    scene = cells_scene(np.random.default_rng(11), size)
    return np.clip(scene.channels, 0, 65535).astype(np.uint16), scene.labels


async def run(consumer: Consumer, image: NDArray[Any], **options: Any) -> dict[str, NDArray[np.int32]]:
    job = await consumer.run("mesmer", tiff(image), "tissue.tiff", {"scale": 1, **options})
    return {name: labels_of(data) for name, data in (await consumer.result(job)).items()}


async def test_channels_first_gives_whole_cells_and_nuclei_at_the_root(consumer: Consumer) -> None:
    image, truth = tissue()
    found = await run(consumer, image)
    assert list(found) == ["tissue_feature_0.tif", "tissue_feature_1.tif"]
    cells, nuclei = found.values()
    assert cells.shape == nuclei.shape == image.shape[1:]
    assert agreement(cells, truth[0]) > 0.6
    assert agreement(nuclei, truth[1]) > 0.6
    inside = nuclei > 0
    assert np.array_equal(nuclei[inside], cells[inside])  # each nucleus has its cell's number
    for labels in (cells, nuclei):
        assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))


@pytest.mark.parametrize(("compartment", "feature"), [("whole-cell", 0), ("nuclear", 1), ("NUCLEAR", 1)])
async def test_one_compartment_alone(consumer: Consumer, compartment: str, feature: int) -> None:
    found = await run(consumer, tissue(96)[0], compartment=compartment)
    assert list(found) == [f"tissue_feature_{feature}.tif"]


async def test_small_objects_are_removed(consumer: Consumer) -> None:
    image = tissue()[0]
    least = 120
    found = await run(consumer, image, min_size=least, compartment="nuclear")
    areas = np.bincount(found["tissue_feature_1.tif"].ravel())[1:]
    everything = np.bincount((await run(consumer, image, compartment="nuclear"))["tissue_feature_1.tif"].ravel())[1:]
    assert everything.min() < least
    assert areas.size < everything.size


@pytest.mark.parametrize(
    ("image", "options", "says"),
    [
        (np.zeros((40, 40), np.uint8), {}, "Two channels are needed"),
        (np.zeros((2, 40, 40), np.uint8), {"channels": [0]}, "Two channels are needed"),
        (np.zeros((2, 40, 40), np.uint8), {"channels": [0, 2]}, "Channel 2 was chosen"),
        (np.zeros((2, 40, 40), np.uint8), {"compartment": "mitochondria"}, "The option compartment is wrong"),
    ],
)
async def test_wrong_input_fails_with_a_sentence(
    consumer: Consumer, image: NDArray[Any], options: dict[str, Any], says: str
) -> None:
    job = await consumer.run("mesmer", tiff(image), "tissue.tiff", {"dimension_order": "", **options})
    assert job.status == "failed"
    assert job.fields["reason"].startswith(says)


async def test_a_constant_image_has_no_cells(consumer: Consumer) -> None:
    found = await run(consumer, np.full((2, 64, 64), 7, np.uint16))
    assert all(labels.max() == 0 for labels in found.values())
