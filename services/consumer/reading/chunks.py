"""Chunks of Zarr arrays: from stored bytes to pixels, codec by codec.

Zarr 2 has one compressor; Zarr 3 a chain, of which one may be sharding: many inner chunks and an index in one file.
"""

from __future__ import annotations

import bz2
import itertools
import lzma
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidInput

Json = dict[str, Any]

# Decompressors by the name of the codec; each takes the bytes and the most bytes that may come out.
_DECOMPRESS: dict[str, Callable[[Any, int], bytes | bytearray]] = {
    "blosc": lambda data, _: imagecodecs.blosc_decode(data),
    "zlib": lambda data, most: imagecodecs.zlib_decode(data, out=most),
    "gzip": lambda data, most: imagecodecs.gzip_decode(data, out=most),
    "zstd": lambda data, most: imagecodecs.zstd_decode(data, out=most),
    "lz4": lambda data, most: imagecodecs.lz4_decode(data, header=True, out=most),
    "bz2": lambda data, _: bz2.decompress(data),
    "lzma": lambda data, _: lzma.decompress(data),
}
# A checksum behind the bytes; damage shows in the pixels' own decoding or not at all, as in other formats.
_CHECKSUM = 4
_NOTHING = (1 << 64) - 1


class Codecs(ABC):
    """How the bytes of one chunk become pixels."""

    @abstractmethod
    def decode(self, data: bytes | bytearray) -> NDArray[Any]:
        """Return a chunk's pixels, of its full shape; any error means that it is damaged."""


class _Plain(Codecs):
    """Compressors around the bytes of an array.

    Args:
        steps: names of compressors, the outermost first.
        shape: of the chunk.
        dtype: with its byte order.
        axes: order in which the axes are stored.
    """

    def __init__(self, steps: list[str], shape: tuple[int, ...], dtype: np.dtype[Any], axes: tuple[int, ...]) -> None:
        self._steps, self._shape, self._dtype, self._axes = steps, shape, dtype, axes

    def decode(self, data: bytes | bytearray) -> NDArray[Any]:
        """Return a chunk's pixels."""
        size = math.prod(self._shape) * self._dtype.itemsize
        for step in self._steps:
            data = data[:-_CHECKSUM] if step == "crc32c" else _DECOMPRESS[step](data, size + (1 << 16))
        stored = tuple(self._shape[axis] for axis in self._axes)
        pixels = np.frombuffer(data, self._dtype, math.prod(stored)).reshape(stored)
        return pixels.transpose(np.argsort(self._axes))


class _Shard(Codecs):
    """Inner chunks, found through an index of their offsets and lengths."""

    def __init__(self, shape: tuple[int, ...], inner: tuple[int, ...], codecs: Codecs, at_end: bool, sum_: int) -> None:
        self._shape, self._inner, self._codecs, self._at_end, self._sum = shape, inner, codecs, at_end, sum_

    def decode(self, data: bytes | bytearray) -> NDArray[Any]:
        """Return a chunk's pixels."""
        grid = [range(length // step) for length, step in zip(self._shape, self._inner, strict=True)]
        count = math.prod(len(axis) for axis in grid)
        size = 16 * count + self._sum
        index = np.frombuffer(data[-size:] if self._at_end else data[:size], "<u8", 2 * count).reshape(-1, 2)
        out: NDArray[Any] | None = None
        for place, (offset, length) in zip(itertools.product(*grid), index.tolist(), strict=True):
            if offset == _NOTHING:
                continue
            if offset + length > len(data):
                raise EOFError
            chunk = self._codecs.decode(data[offset : offset + length])
            out = np.zeros(self._shape, chunk.dtype) if out is None else out
            region = tuple(slice(i * step, (i + 1) * step) for i, step in zip(place, self._inner, strict=True))
            out[region] = chunk
        return np.zeros(self._shape, np.uint8) if out is None else out


def codecs_v2(about: Json, dtype: np.dtype[Any]) -> Codecs:
    """Return the codecs of a Zarr 2 array's metadata; raises InvalidInput where one is not supported."""
    if about.get("filters"):
        raise _unsupported(f"the filter {about['filters'][0].get('id')}")
    name = (about.get("compressor") or {}).get("id")
    if name is not None and name not in _DECOMPRESS:
        raise _unsupported(f"the compressor {name}")
    shape = tuple(about["chunks"])
    axes = tuple(range(len(shape)))
    return _Plain([name] if name else [], shape, dtype, axes[::-1] if about.get("order") == "F" else axes)


def codecs_v3(chain: list[Json], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Codecs:
    """Return the codecs of a Zarr 3 array's metadata; raises InvalidInput where one is not supported."""
    axes = tuple(range(len(shape)))
    steps: list[str] = []
    for codec in chain:
        name, how = str(codec["name"]), codec.get("configuration") or {}
        if name == "sharding_indexed":
            return _shard(how, shape, dtype)
        if name == "transpose":
            axes = tuple(axes[int(i)] for i in how["order"])
        elif name == "bytes":
            dtype = dtype.newbyteorder(">" if how.get("endian") == "big" else "<")
        elif name in _DECOMPRESS or name == "crc32c":
            steps.insert(0, name)
        else:
            raise _unsupported(f"the codec {name}")
    if sorted(axes) != list(range(len(shape))):
        raise ValueError(axes)
    return _Plain(steps, shape, dtype, axes)


def _shard(how: Json, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Codecs:
    inner = tuple(int(n) for n in how["chunk_shape"])
    if len(inner) != len(shape) or any(n < 1 or length % n for n, length in zip(inner, shape, strict=True)):
        raise ValueError(inner)
    index = [str(codec["name"]) for codec in how.get("index_codecs") or ()]
    if not set(index) <= {"bytes", "crc32c"}:
        raise _unsupported("a compressed index of shards")
    return _Shard(
        shape,
        inner,
        codecs_v3(how["codecs"], inner, dtype),
        how.get("index_location", "end") == "end",
        _CHECKSUM if "crc32c" in index else 0,
    )


def _unsupported(what: str) -> InvalidInput:
    return InvalidInput(
        f"The Zarr file uses {what}, which is not supported; supported are {', '.join(sorted(_DECOMPRESS))}.",
        code="unsupported",
    )
