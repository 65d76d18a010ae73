from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from shared.storage import Storage, open_storage
from tests.fixtures.gcs import GcsServer
from tests.integration.tus.serve import make_app, serving


@pytest.fixture(scope="session")
def image() -> bytes:
    """What begins as a TIFF and has no two stretches alike; a little less than two blocks."""
    return b"II*\0" + random.Random(5).randbytes(1_000_000)


@pytest.fixture(params=["file", "gs"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    if request.param == "file":
        opened = open_storage(f"file://{tmp_path}/root", "mine")
    else:
        server: GcsServer = request.getfixturevalue("gcs_server")
        opened = open_storage(f"gs://{server.make_bucket()}/p", "mine", gcs_api_root=server.url)
    yield opened
    await opened.aclose()


class Clock:
    """The time, which tests may move on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def url(storage: Storage, clock: Clock) -> AsyncIterator[str]:
    async with serving(make_app(storage, clock, max_bytes=5_000_000, idle_seconds=5)) as address:
        yield address


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"Tus-Resumable": "1.0.0"}) as session:
        yield session
