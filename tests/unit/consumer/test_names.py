"""What results are called, and where a job's files lie: names that every file system and bucket takes."""

from __future__ import annotations

from typing import Any, cast

import pytest

from services.consumer.results import base_name
from shared.jobs import Job


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("cells.tif", "cells"),
        ("cells.ome.tif", "cells"),
        ("a/b\\cells.v2.png", "cells.v2"),
        ("", "image"),
        ("x" * 196 + ".tif", "x" * 196),
        ("x" * 251 + ".tif", "x" * 200),
        ("漢" * 196 + ".tif", "漢" * 66),
        ("🔬" * 196 + ".zarr.zip", "🔬" * 50),
    ],
)
def test_results_are_called_after_the_image_as_far_as_there_is_room(name: str, base: str) -> None:
    assert base_name(cast("Job", _Named(name))) == base


class _Named:
    def __init__(self, name: str) -> None:
        self.fields: dict[str, Any] = {"original_name": name}
