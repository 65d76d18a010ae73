"""Real files of every format, small, to be broken in every way."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

_RNG = np.random.default_rng(7)
_DATA = Path(__file__).parents[1] / "data"


def _pixels(shape: tuple[int, ...], dtype: str) -> Any:
    return (_RNG.random(shape) * 200).astype(dtype)


def _tiff(shape: tuple[int, ...], dtype: str = "u2", **how: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, _pixels(shape, dtype), **{"photometric": "minisblack", **how})
    return out.getvalue()


def _pyramid() -> bytes:
    out = io.BytesIO()
    with tifffile.TiffWriter(out, ome=True) as file:
        file.write(_pixels((64, 64), "u2"), subifds=1, tile=(16, 16), photometric="minisblack", metadata={"axes": "YX"})
        file.write(_pixels((32, 32), "u2"), subfiletype=1, tile=(16, 16), photometric="minisblack")
    return out.getvalue()


def _npz() -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, raw=_pixels((20, 30), "u2"), y=_pixels((20, 30), "i4"))
    return out.getvalue()


def _npy(dtype: str) -> bytes:
    out = io.BytesIO()
    np.save(out, _pixels((3, 20, 30), dtype))
    return out.getvalue()


def images() -> dict[str, bytes]:
    """Return image files by name."""
    grey, colour = _pixels((40, 48), "u1"), _pixels((40, 48, 3), "u1")
    seeds = {
        "plain": _tiff((40, 48)),
        "big-endian": _tiff((40, 48), byteorder=">"),
        "bigtiff": _tiff((40, 48), bigtiff=True),
        "lzw": _tiff((40, 48), compression="lzw", predictor=2, rowsperstrip=7),
        "deflate": _tiff((40, 48), "f4", compression="zlib", predictor=3),
        "zstd": _tiff((40, 48), compression="zstd"),
        "packbits": _tiff((40, 48), "u1", compression="packbits"),
        "jpeg-in-tiff": _tiff((48, 48), "u1", compression="jpeg", tile=(16, 16)),
        "jpeg2000": _tiff((40, 48), compression="jpeg2000"),
        "tiles": _tiff((40, 48), tile=(16, 16), compression="lzw"),
        "bits": _tiff((40, 48), "?"),
        "rgb": _tiff((40, 48, 3), "u1", photometric="rgb"),
        "planar": _tiff((3, 40, 48), "u1", photometric="rgb", planarconfig="separate", compression="zlib"),
        "stack": _tiff((6, 20, 24), metadata={"axes": "TYX"}),
        "pages": _tiff((6, 20, 24), metadata=None, compression="zlib"),
        "ome": _tiff((3, 2, 20, 24), ome=True, metadata={"axes": "TCYX", "PhysicalSizeX": 0.5}),
        "imagej": _tiff((3, 2, 20, 24), imagej=True, metadata={"axes": "TCYX", "unit": "um"}, resolution=(2, 2)),
        "pyramid": _pyramid(),
        "png-8": bytes(imagecodecs.png_encode(grey)),
        "png-16": bytes(imagecodecs.png_encode(_pixels((40, 48), "u2"))),
        "png-rgba": bytes(imagecodecs.png_encode(_pixels((40, 48, 4), "u1"))),
        "jpeg-grey": bytes(imagecodecs.jpeg8_encode(grey)),
        "jpeg-rgb": bytes(imagecodecs.jpeg8_encode(colour)),
        "npy": _npy("u2"),
        "npy-float": _npy(">f4"),
        "npz": _npz(),
    }
    return seeds | {path.name: path.read_bytes() for path in sorted((_DATA / "zarr").glob("*.zip"))}


def archives() -> dict[str, bytes]:
    """Return archives by name."""
    return {name: b"".join(_archive(name)) for name in ("zip-stored", "zip-deflated", "tar", "tar.gz")}


def _archive(kind: str) -> Iterator[bytes]:
    names = ["a.tif", "folder/b.png", "notes.txt", "folder/" + "long" * 40 + ".tif"]
    out = io.BytesIO()
    if kind.startswith("zip"):
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED if kind == "zip-stored" else zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(name, json.dumps({"name": name}) * 40)
    else:
        with tarfile.open(fileobj=out, mode=f"w:{kind[4:]}") as tar:  # type: ignore[call-overload]
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = 700
                tar.addfile(info, io.BytesIO(bytes(700)))
    yield out.getvalue()
