from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.storage import Storage, open_storage
from tests.fixtures.gcs import GcsServer


@pytest.fixture(scope="session")
def noise() -> bytes:
    """Five megabytes and a little, of which no two stretches are alike."""
    return random.Random(7).randbytes(5 * 1024 * 1024 + 17)


@pytest.fixture(params=["file", "gs"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    if request.param == "file":
        opened = open_storage(f"file://{tmp_path}/root", "mine")
    else:
        server: GcsServer = request.getfixturevalue("gcs_server")
        opened = open_storage(f"gs://{server.make_bucket()}/some/prefix", "mine", gcs_api_root=server.url)
    yield opened
    await opened.aclose()
