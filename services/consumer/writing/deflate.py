"""Deflate as fast as it goes, in zlib's format: previews and labels are written once and read once or never."""

from __future__ import annotations

import imagecodecs

#: Bytes that are tried, and what must be left of them for compressing the rest to be worth its time: noise stays as
#: large as it is, and takes longest.
_TRIED, _WORTH = 1 << 16, 0.85


def compress(data: bytes) -> bytes:
    """Compress at the fastest level, or only wrap what hardly gets smaller.

    The fastest level of zlib-ng takes a quarter of zlib's time on label images.
    """
    middle = max(0, (len(data) - _TRIED) // 2)
    sample = data[middle : middle + _TRIED]
    level = 1 if len(data) <= _TRIED or len(_deflate(sample, 1)) < _WORTH * len(sample) else 0
    return _deflate(data, level)


def _deflate(data: bytes, level: int) -> bytes:
    if imagecodecs.ZLIBNG.available:
        return bytes(imagecodecs.zlibng_encode(data, level=level))
    return bytes(imagecodecs.zlib_encode(data, level=level))
