from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.storage import Storage, open_storage


@pytest.fixture(scope="session")
def noise() -> bytes:
    """3 MB and a little, of which no two stretches are alike."""
    return random.Random(7).randbytes(3 * 1024 * 1024 + 17)


@pytest.fixture(params=["file"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    opened = open_storage(f"file://{tmp_path}/root", "mine")
    yield opened
    await opened.aclose()
