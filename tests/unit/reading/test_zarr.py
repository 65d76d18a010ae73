"""OME-Zarr files written by the zarr package itself, and broken ones."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.consumer.reading.formats import decode
from services.consumer.reading.limits import ReadLimits
from shared.errors import InvalidInput

DATA = Path(__file__).parents[2] / "data" / "zarr"
IMAGE = (np.arange(2 * 3 * 20 * 30) % 251).reshape(2, 3, 20, 30)


@pytest.mark.parametrize("path", sorted(DATA.glob("*.zip")), ids=lambda path: path.name.removesuffix(".ome.zarr.zip"))
def test_what_the_zarr_package_wrote(tmp_path: Path, path: Path) -> None:
    decoded = decode(path, tmp_path / "out.npy", ReadLimits())
    assert np.array_equal(decoded.open(), IMAGE)
    assert (decoded.dim_order, decoded.batch_axis, decoded.pixel_size_um) == ("BCXY", "T", 0.25)
    assert decoded.channel_names == ("DAPI", "GFP", "x")


def changed(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], name: str = "v3-zstd", file: str = "0/zarr.json"
) -> Path:
    """Copy a file with one of its metadata files changed."""
    out = tmp_path / "changed.zarr.zip"
    with zipfile.ZipFile(DATA / f"{name}.ome.zarr.zip") as source, zipfile.ZipFile(out, "w") as target:
        for info in source.infolist():
            data = source.read(info)
            if info.filename == file:
                about = json.loads(data)
                change(about)
                data = json.dumps(about).encode()
            target.writestr(info.filename, data)
    return out


def _pixel_by_pixel() -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": [1, 1, 1, 1]}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda about: about.update(shape=[2, 3, 200_000, 300_000]), "IMAGE_PIXELS"),
        (lambda about: about["chunk_grid"]["configuration"].update(chunk_shape=[1, 3, 200_000, 300_000]), "one chunk"),
        (lambda about: about.update(shape=[2, 3, 2000, 3000], chunk_grid=_pixel_by_pixel()), "into more than"),
        (lambda about: about.update(shape="x"), "metadata is not valid"),
        (lambda about: about.update(shape=[2, 3, 0, 30]), "no pixels"),
        (lambda about: about.update(data_type="complex64"), "complex64"),
        (lambda about: about.update(codecs=[{"name": "unheard-of"}]), "the codec unheard-of"),
        (lambda about: about.pop("codecs"), "metadata is not valid"),
        (lambda about: about["chunk_grid"]["configuration"].update(chunk_shape=[3, 20, 16]), "metadata is not valid"),
        (lambda about: about.update(data_type="float64"), "could not be decoded"),
    ],
)
def test_broken_metadata(tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        decode(changed(tmp_path, change), tmp_path / "out.npy", ReadLimits())


def test_missing_chunks_are_filled(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr.zip"
    about = {"zarr_format": 2, "shape": [4, 6], "chunks": [4, 3], "dtype": "<u2", "compressor": None, "fill_value": 7}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(".zarray", json.dumps(about | {"filters": None, "order": "C"}))
        archive.writestr("0.1", np.arange(12, dtype="<u2").tobytes())
    decoded = decode(path, tmp_path / "out.npy", ReadLimits())
    found = decoded.open()[0, 0]
    assert (found[:, :3] == 7).all()
    assert np.array_equal(found[:, 3:], np.arange(12).reshape(4, 3))


def test_a_group_without_an_array(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(".zgroup", "{}")
    with pytest.raises(InvalidInput, match="holds no array"):
        decode(tmp_path / "a.zip", tmp_path / "out.npy", ReadLimits())
