"""OME-Zarr in a zip file: which of its arrays is the image, and how that is cut into chunks.

Formats: Zarr 2 and 3 (zarr-specs.readthedocs.io), OME-Zarr 0.1 to 0.5 (ngff.openmicroscopy.org). The image of the
highest resolution is read, of the first image where there are several.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from services.consumer.reading.chunks import Codecs, Json, codecs_v2, codecs_v3
from services.consumer.reading.limits import ReadLimits, check_piece, check_shape
from services.consumer.reading.source import Source, Target
from shared.errors import InvalidInput

_MARKS = (".zattrs", ".zgroup", ".zarray", "zarr.json")
# Bytes of one metadata file.
_METADATA = 4 << 20
# Chunks of one array: each is looked for, whether it is there or not, and takes its time.
_CHUNKS = 1_000_000
_MICROMETRES = {
    "micrometer": 1.0, "micrometre": 1.0, "µm": 1.0, "um": 1.0, "nanometer": 1e-3, "nanometre": 1e-3, "nm": 1e-3,
    "millimeter": 1e3, "millimetre": 1e3, "mm": 1e3, "meter": 1e6, "m": 1e6, "angstrom": 1e-4,
}  # fmt: skip
_WRONG = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class _Array:
    """One array: its folder in the zip, with a slash behind it, and its layout."""

    folder: str
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: Any
    prefix: str
    separator: str
    codecs: Codecs

    def name(self, place: Sequence[int]) -> str:
        return self.folder + self.prefix + self.separator.join(map(str, place))


def is_zarr(names: Sequence[str]) -> bool:
    """Tell whether a zip file of these names is a Zarr."""
    return any(name.rpartition("/")[2] in _MARKS for name in names)


@contextlib.contextmanager
def open_zarr(path: Path, limits: ReadLimits) -> Iterator[Source]:
    """Open the image of an OME-Zarr, or the only array of a plain Zarr.

    Raises:
        InvalidInput: damaged, too large, without an image, or coded in a way that is not supported.
    """
    with zipfile.ZipFile(path) as file:
        try:
            names = set(file.namelist())
            image = _image(file, names)
            array = _array(file, names, image.folder + image.path)
        except InvalidInput:
            raise
        except _WRONG as error:
            raise InvalidInput("The OME-Zarr file is damaged: its metadata is not valid.", code="damaged") from error
        check_shape(array.shape, array.dtype, limits)
        _check_grid(array)
        check_piece(
            4 * math.prod(array.chunk) * array.dtype.itemsize, limits, "Decoding one chunk of the OME-Zarr image"
        )

        def write(target: Target) -> None:
            _write(file, names, array, target)

        axes = image.axes if len(image.axes) == len(array.shape) else ""
        yield Source(array.shape, array.dtype, write, axes, image.pixel_size_um, image.channels)


@dataclass(frozen=True)
class _Image:
    folder: str
    path: str
    axes: str
    pixel_size_um: float | None
    channels: tuple[str, ...]


def _image(file: zipfile.ZipFile, names: set[str]) -> _Image:
    """Find the first image: the multiscales nearest to the root, else the first array."""
    marked = sorted((name for name in names if name.rpartition("/")[2] in _MARKS), key=lambda n: (n.count("/"), n))
    for name in marked:
        attributes = _attributes(file, name)
        if attributes.get("multiscales"):
            return _of_multiscales(name.removesuffix(name.rpartition("/")[2]), attributes)
    for name in marked:
        if name.endswith(".zarray") or (name.endswith("zarr.json") and _json(file, name).get("node_type") == "array"):
            return _Image(name.removesuffix(name.rpartition("/")[2]), "", "", None, ())
    raise InvalidInput("The Zarr file holds no array.", code="no-pixels")


def _attributes(file: zipfile.ZipFile, name: str) -> Json:
    if name.endswith(".zattrs"):
        return _json(file, name)
    if name.endswith("zarr.json"):
        attributes: Json = _json(file, name).get("attributes") or {}
        ome = attributes.get("ome")
        return ome if isinstance(ome, dict) else attributes
    return {}


def _of_multiscales(folder: str, attributes: Json) -> _Image:
    scales = attributes["multiscales"][0]
    dataset = scales["datasets"][0]
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in scales.get("axes") or ()]
    letters = "".join(str(axis["name"])[:1].upper() for axis in axes)
    letters = "".join(letter if letter in "TCZYX" else "?" for letter in letters) or "TCZYX"
    size = None
    if axes:
        steps = [t["scale"] for t in dataset.get("coordinateTransformations") or () if t.get("type") == "scale"]
        unit = _MICROMETRES.get(str(axes[-1].get("unit", "")).lower())
        size = float(steps[0][-1]) * unit if steps and unit and letters.endswith("X") else None
    channels = (attributes.get("omero") or {}).get("channels") or ()
    labels = tuple(str(channel.get("label", ""))[:80] for channel in channels)
    return _Image(folder, str(dataset["path"]), letters, size if size and math.isfinite(size) else None, labels)


def _array(file: zipfile.ZipFile, names: set[str], folder: str) -> _Array:
    folder = f"{folder.strip('/')}/" if folder.strip("/") else ""
    if f"{folder}zarr.json" in names:
        return _array_v3(folder, _json(file, f"{folder}zarr.json"))
    if f"{folder}.zarray" in names:
        return _array_v2(folder, _json(file, f"{folder}.zarray"))
    raise InvalidInput("The OME-Zarr file is damaged: the array of its image is missing.", code="damaged")


def _array_v2(folder: str, about: Json) -> _Array:
    dtype = np.dtype(str(about["dtype"]))
    return _Array(
        folder,
        _lengths(about["shape"]),
        _lengths(about["chunks"], least=1),
        dtype,
        about.get("fill_value"),
        "",
        str(about.get("dimension_separator") or "."),
        codecs_v2(about, dtype),
    )


def _array_v3(folder: str, about: Json) -> _Array:
    shape = _lengths(about["shape"])
    if about["chunk_grid"]["name"] != "regular":
        raise InvalidInput(
            "The Zarr file's chunks are not all of one size, which is not supported.", code="unsupported"
        )
    chunk = _lengths(about["chunk_grid"]["configuration"]["chunk_shape"], least=1)
    dtype = np.dtype(str(about["data_type"]))
    keys = about.get("chunk_key_encoding") or {"name": "default"}
    default = keys["name"] == "default"
    separator = (keys.get("configuration") or {}).get("separator") or ("/" if default else ".")
    prefix = f"c{separator}" if default else ""
    codecs = codecs_v3(about["codecs"], chunk, dtype)
    return _Array(folder, shape, chunk, dtype, about.get("fill_value"), prefix, str(separator), codecs)


def _lengths(values: Any, least: int = 0) -> tuple[int, ...]:
    lengths = tuple(values)
    if not 0 < len(lengths) <= 8 or any(not isinstance(n, int) or n < least for n in lengths):
        raise ValueError(values)
    return lengths


def _check_grid(array: _Array) -> None:
    if math.prod(map(len, _grid(array))) > _CHUNKS:
        raise InvalidInput(
            f"The OME-Zarr image is cut into more than {_CHUNKS:,} chunks, which is not supported.", code="unsupported"
        )


def _grid(array: _Array) -> list[range]:
    """Return the places of the chunks along each axis."""
    if len(array.chunk) != len(array.shape):
        raise InvalidInput("The OME-Zarr file is damaged: its metadata is not valid.", code="damaged")
    return [range(-(-length // step)) for length, step in zip(array.shape, array.chunk, strict=True)]


def _write(file: zipfile.ZipFile, names: set[str], array: _Array, target: Target) -> None:
    for place in itertools.product(*_grid(array)):
        name = array.name(place)
        region = tuple(
            slice(i * step, min(length, (i + 1) * step))
            for i, step, length in zip(place, array.chunk, array.shape, strict=True)
        )
        if name not in names:
            if array.fill:
                target.write(np.full((1,) * len(array.shape), array.fill, array.dtype), region)
            continue
        try:
            chunk = array.codecs.decode(file.read(_checked(file, name, array)))
        except InvalidInput:
            raise
        except MemoryError:
            raise
        except Exception as error:
            raise InvalidInput("The OME-Zarr file is damaged: a chunk could not be decoded.", code="damaged") from error
        target.write(chunk[tuple(slice(0, part.stop - part.start) for part in region)], region)


def _checked(file: zipfile.ZipFile, name: str, array: _Array) -> zipfile.ZipInfo:
    info = file.getinfo(name)
    if info.file_size > 2 * math.prod(array.chunk) * array.dtype.itemsize + (1 << 20):
        raise InvalidInput("The OME-Zarr file is damaged: a chunk is larger than its pixels.", code="damaged")
    return info


def _json(file: zipfile.ZipFile, name: str) -> Json:
    info = file.getinfo(name)
    if info.file_size > _METADATA:
        raise InvalidInput("The OME-Zarr file is damaged: its metadata is too large.", code="damaged")
    found = json.loads(file.read(info))
    if not isinstance(found, dict):
        raise TypeError(name)
    return found
