"""Movies that come with their segmentation."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from services.consumer.reading import ReadLimits, unpack_movie
from services.consumer.reading.formats import decode
from shared.errors import InvalidInput

RAW = np.random.default_rng(0).random((5, 40, 48, 1)).astype(np.float32)
LABELS = (RAW > 0.5).astype(np.int32)


def make(path: Path, mode: str, **arrays: np.ndarray) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, array in arrays.items():
            data = io.BytesIO()
            np.save(data, array)
            info = tarfile.TarInfo(f"{name}.npy")
            info.size = len(data.getvalue())
            archive.addfile(info, io.BytesIO(data.getvalue()))
        archive.addfile(tarfile.TarInfo("lineage.json"))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("batched", [False, True])
def test_both_arrays_come_out(tmp_path: Path, mode: str, batched: bool) -> None:
    stored = (RAW[np.newaxis], LABELS[np.newaxis]) if batched else (RAW, LABELS)
    movie = unpack_movie(make(tmp_path / "a.trk", mode, raw=stored[0], tracked=stored[1]), tmp_path, 10**8)
    for path, expected in ((movie.raw, RAW), (movie.labels, LABELS)):
        decoded = decode(path, tmp_path / "out.npy", ReadLimits(), "BXYC")
        assert np.array_equal(decoded.open(), np.moveaxis(expected, 3, 1))


def test_wrong_movies(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"lacks tracked\.npy"):
        unpack_movie(make(tmp_path / "a.trk", "w", raw=RAW), tmp_path, 10**8)
    with pytest.raises(InvalidInput, match="unpacks to more"):
        unpack_movie(make(tmp_path / "a.trk", "w", raw=RAW, tracked=LABELS), tmp_path, 1000)
    (tmp_path / "b.trk").write_text("hello")
    with pytest.raises(InvalidInput, match=r"no \.trk or \.trks movie"):
        unpack_movie(tmp_path / "b.trk", tmp_path, 10**8)
