from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellkiosk import AsyncClient
from shared.jobs import Job
from tests.fixtures.frontend import Served, Worker

LABELS = (np.arange(64 * 48, dtype=np.int32) // 97).reshape(48, 64)


@pytest.fixture(autouse=True)
def real_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the stand-in for the consumer put label images into its results."""

    def zipped(_worker: Worker, _job: Job, stem: str) -> bytes:
        buffer, image = io.BytesIO(), io.BytesIO()
        tifffile.imwrite(image, LABELS, compression="zlib")
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(f"{stem}_batch_0_feature_0.tif", image.getvalue())
        return buffer.getvalue()

    monkeypatch.setattr(Worker, "_zip", zipped)


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KIOSK_URL", raising=False)
    monkeypatch.delenv("KIOSK_API_KEY", raising=False)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, np.zeros((48, 64), np.uint16))
    return path


@pytest.fixture
async def client(working: Served) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(working.url, patience=10) as opened:
        yield opened
