"""What a job sets aside of the worker's memory: a large image must not keep all others waiting until it is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.consumer.dense import HELD
from services.consumer.pipelines.segmentation import job_memory
from services.consumer.reading import Decoded
from services.consumer.settings import LimitSettings, WorkSettings


@pytest.mark.parametrize(("side", "expected"), [(1024, 12 * 1024**2), (20_000, 12 * HELD)])
def test_of_a_large_plane_only_the_blocks_under_way_count(side: int, expected: int) -> None:
    decoded = Decoded(Path("image.npy"), (1, 1, side, side), "uint16", "XY", 0, "", None, ())
    assert job_memory(decoded, HELD) == expected


def test_the_largest_image_leaves_most_of_the_memory_to_others() -> None:
    assert LimitSettings().job_memory > 12 * HELD
    assert WorkSettings().memory / 2 > 12 * HELD
