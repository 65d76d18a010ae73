"""Files that cannot be read: each gets its own sentence and code, before anything is decoded where that can be."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from services.consumer.reading.formats import decode
from services.consumer.reading.limits import ReadLimits
from shared.errors import InvalidInput

IMAGE = (np.random.default_rng(0).random((64, 48)) * 60000).astype(np.uint16)


def tiff(**how: object) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, IMAGE, metadata=None, **how)  # type: ignore[arg-type]
    return out.getvalue()


def png_header(columns: int, rows: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def with_tag(data: bytes, code: int, value: int) -> bytes:
    """Replace the value of a LONG or SHORT tag of a little-endian TIFF's first directory."""
    start = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[start : start + 2])[0]
    out = bytearray(data)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack("<H", data[entry : entry + 2])[0] == code:
            out[entry + 2 : entry + 4] = struct.pack("<H", 4)
            out[entry + 8 : entry + 12] = struct.pack("<I", value)
    return bytes(out)


def circular() -> bytes:
    data = bytearray(tiff())
    start = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[start : start + 2])[0]
    place = start + 2 + 12 * count
    data[place : place + 4] = struct.pack("<I", start)
    return bytes(data)


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def npy(array: np.ndarray, cut: int | None = None) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()[:cut]


WRONG: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "empty": (lambda: b"", "empty", "The file is empty"),
    "text": (lambda: b"hello, this is no image\n", "not-an-image", "a text; allowed are PNG"),
    "one byte": (lambda: b"I", "not-an-image", "allowed are"),
    "zeros": (lambda: bytes(4096), "not-an-image", "zeros"),
    "pdf": (lambda: b"%PDF-1.7\n\xff\xfe", "not-an-image", "a PDF document"),
    "noise": (lambda: bytes(range(128, 256)) * 9, "not-an-image", "no image in a format that is known"),
    "zip": (lambda: zipped(a=b"x"), "not-an-image", "zip archive, not an image"),
    "truncated zip": (lambda: zipped(a=b"x" * 99)[:60], "damaged", "damaged or truncated zip"),
    "truncated tiff header": (lambda: tiff()[:6], "damaged", "header is incomplete"),
    "truncated tiff": (lambda: tiff()[: 64 * 48], "damaged", "truncated"),
    "truncated compressed tiff": (lambda: tiff(compression="zlib")[:3000], "damaged", "truncated"),
    "tiff without a directory": (lambda: b"II*\0\0\0\0\0", "damaged", "holds no image"),
    "directory outside": (lambda: b"II*\0\xff\xff\xff\x7f", "damaged", "outside the file"),
    "directory of 60,000 tags": (lambda: b"II*\0\x08\0\0\0\x60\xea" + bytes(99), "damaged", "60,000 tags"),
    "circular directories": (circular, "damaged", "circle"),
    "huge tiff header": (lambda: with_tag(with_tag(tiff(), 256, 40000), 257, 40000), "too-large", "1,600,000,000"),
    "no rows": (lambda: with_tag(tiff(), 257, 0), "", ""),
    "huge strip": (lambda: with_tag(tiff(compression="zlib"), 257, 400_000_000), "too-large", "allowed are"),
    "broken deflate": (lambda: tiff(compression="zlib").replace(b"\x78", b"\x79"), "damaged", "could not be decoded"),
    "huge png header": (lambda: png_header(40000, 40000) + b"x", "too-large", "IMAGE_PIXELS"),
    "png header only": (lambda: png_header(40, 40), "damaged", "damaged or truncated"),
    "truncated png": (lambda: imagecodecs.png_encode(IMAGE)[:500], "damaged", "damaged or truncated"),
    "cut png header": (lambda: imagecodecs.png_encode(IMAGE)[:20], "damaged", "header is incomplete"),
    "png without rows": (lambda: png_header(40, 0), "no-pixels", "no pixels"),
    "truncated jpeg": (lambda: imagecodecs.jpeg8_encode(IMAGE.astype("u1"))[:900], "damaged", "truncated"),
    "jpeg without a frame": (lambda: b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(9), "damaged", "no frame"),
    "12 bits": (lambda: b"\xff\xd8\xff\xc0\0\x0b\x0c\0\x10\0\x10\x01\x01\x11\0\xff\xd9", "unsupported", "12 bits"),
    "objects": (lambda: npy(np.array([{}, []], object)), "unsupported-dtype", "Python objects"),
    "complex": (lambda: npy(np.zeros((8, 8), complex)), "unsupported-dtype", "complex128"),
    "text array": (lambda: npy(np.array([["a"]])), "unsupported-dtype", "<U1"),
    "record array": (lambda: npy(np.zeros((8, 8), "u1,u2")), "unsupported-dtype", "integers"),
    "one axis": (lambda: npy(np.zeros(8)), "axes", "at least two axes"),
    "no axis": (lambda: npy(np.float64(1)), "axes", "at least two axes"),
    "no pixels": (lambda: npy(np.zeros((0, 8))), "no-pixels", "no pixels"),
    "truncated npy": (lambda: npy(IMAGE, 900), "damaged", "truncated"),
    "cut npy header": (lambda: npy(IMAGE, 20), "damaged", "header"),
    "lying npy": (lambda: npy(IMAGE).replace(b"(64, 48)", b"(2**9,9)"), "damaged", "header"),
    "npz without arrays": (lambda: zipped(**{"a.npy": b"x"}), "damaged", "header"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_gets_a_sentence(tmp_path: Path, name: str) -> None:
    make, code, words = WRONG[name]
    source, target = tmp_path / "image.png", tmp_path / "out.npy"
    source.write_bytes(make())
    with pytest.raises(InvalidInput) as caught:
        decode(source, target, ReadLimits())
    sentence = str(caught.value)
    assert words in sentence
    assert code in ("", caught.value.code)
    assert sentence.endswith((".", ")."))
    assert "Error" not in sentence
    assert str(tmp_path) not in sentence


def test_limits_name_the_setting_that_raises_them(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((30, 64, 48), np.uint8))
    for limits, setting in (
        (ReadLimits(pixels=1000), "KIOSK_LIMITS__IMAGE_PIXELS"),
        (ReadLimits(planes=29), "KIOSK_LIMITS__FRAMES"),
        (ReadLimits(bytes=1000), "KIOSK_LIMITS__JOB_MEMORY"),
    ):
        with pytest.raises(InvalidInput, match=setting):
            decode(tmp_path / "a.npy", tmp_path / "out.npy", limits)
        assert not (tmp_path / "out.npy").exists()


def test_a_strip_that_is_too_large_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, compression="zlib", rowsperstrip=64)
    with pytest.raises(InvalidInput, match="one strip or tile"):
        decode(tmp_path / "a.tif", tmp_path / "out.npy", ReadLimits(bytes=10_000))
