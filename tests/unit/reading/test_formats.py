"""Every format, written by a library and read by ours: pixels, axes, pixel size, channel names."""

from __future__ import annotations

import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from services.consumer.reading import arrays, helper
from services.consumer.reading.decoded import Decoded
from services.consumer.reading.formats import decode
from services.consumer.reading.limits import ReadLimits
from shared.errors import InvalidInput

LIMITS = ReadLimits()


def pixels(shape: tuple[int, ...], dtype: str = "u2", top: int = 200) -> NDArray[Any]:
    """Pixels that tell a wrong order: no two rows or columns alike."""
    values = np.random.default_rng(0).random(shape) * top
    return values.astype(dtype)


def read(path: Path, order: str = "", limits: ReadLimits = LIMITS) -> tuple[Decoded, NDArray[Any]]:
    decoded = decode(path, path.with_suffix(".out.npy"), limits, order)
    opened = decoded.open()
    assert opened.shape == decoded.shape
    assert opened.dtype.str == decoded.dtype
    return decoded, np.asarray(opened)


TIFFS: list[tuple[str, tuple[int, ...], str, dict[str, Any]]] = [
    ("plain", (64, 48), "u1", {}),
    ("16 bits big-endian", (64, 48), "u2", {"byteorder": ">"}),
    ("signed", (64, 48), "i2", {}),
    ("32 bits", (64, 48), "u4", {"byteorder": ">"}),
    ("float", (64, 48), "f4", {"compression": "zlib", "predictor": 3}),
    ("double", (64, 48), "f8", {"byteorder": ">"}),
    ("half", (64, 48), "f2", {}),
    ("big", (64, 48), "u2", {"bigtiff": True}),
    ("lzw", (64, 48), "u2", {"compression": "lzw", "predictor": 2, "rowsperstrip": 5}),
    ("deflate", (64, 48), "u2", {"compression": "zlib", "rowsperstrip": 7}),
    ("zstd", (64, 48), "u2", {"compression": "zstd"}),
    ("packbits", (64, 48), "u1", {"compression": "packbits"}),
    ("jpeg 2000", (64, 48), "u2", {"compression": "jpeg2000", "compressionargs": {"reversible": True}}),
    ("tiles beyond the edge", (70, 50), "u2", {"tile": (32, 32), "compression": "lzw"}),
    ("tiles uncompressed", (70, 50), "u2", {"tile": (32, 32), "byteorder": ">"}),
    ("one pixel", (1, 1), "u1", {}),
]


@pytest.mark.parametrize(("shape", "dtype", "how"), [row[1:] for row in TIFFS], ids=[row[0] for row in TIFFS])
def test_a_tiff_of_one_plane(tmp_path: Path, shape: tuple[int, ...], dtype: str, how: dict[str, Any]) -> None:
    image = pixels(shape, dtype)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", **how)
    decoded, found = read(tmp_path / "a.tif")
    assert found.dtype == image.dtype
    assert np.array_equal(found[0, 0], image)
    assert (decoded.dim_order, decoded.batch_axis, decoded.channel_names) == ("XY", "", ())


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"tile": (16, 16), "compression": "lzw"}])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour_samples_become_channels(tmp_path: Path, how: dict[str, Any], planar: str) -> None:
    image = pixels((40, 48, 3), "u1")
    stored = image if planar == "contig" else np.moveaxis(image, 2, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, **how)
    decoded, found = read(tmp_path / "a.tif")
    assert np.array_equal(found[0], np.moveaxis(image, 2, 0))
    assert decoded.dim_order == ("XYC" if planar == "contig" else "CXY")
    assert decoded.channel_names == ("red", "green", "blue")


@pytest.mark.parametrize("how", [{}, {"compression": "zlib", "rowsperstrip": 9}, {"tile": (16, 16)}])
@pytest.mark.parametrize(
    ("shape", "axes", "dim_order", "batch_axis"),
    [
        ((6, 40, 48), "TYX", "TYX", "T"),
        ((6, 40, 48), "ZYX", "ZYX", "Z"),
        ((2, 40, 48), "CYX", "CXY", ""),
        ((6, 2, 40, 48), "TCYX", "BCXY", "T"),
        ((2, 6, 40, 48), "CZYX", "CBXY", "Z"),
        ((3, 2, 2, 40, 48), "TZCYX", "BCXY", "B"),
    ],
)
def test_stacks_by_their_metadata(
    tmp_path: Path, how: dict[str, Any], shape: tuple[int, ...], axes: str, dim_order: str, batch_axis: str
) -> None:
    image = pixels(shape)
    tifffile.imwrite(
        tmp_path / "a.ome.tif", image, photometric="minisblack", metadata={"axes": axes, "PhysicalSizeX": 0.25}, **how
    )
    decoded, found = read(tmp_path / "a.ome.tif")
    expected = np.moveaxis(image, axes.index("C"), -3) if "C" in axes else image[..., np.newaxis, :, :]
    assert np.array_equal(found, expected.reshape(found.shape))
    assert (decoded.dim_order, decoded.batch_axis, decoded.pixel_size_um) == (dim_order, batch_axis, 0.25)


def test_an_option_lays_axes_over_pages(tmp_path: Path) -> None:
    image = pixels((64, 48, 30))
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", metadata=None)
    tifffile.imwrite(tmp_path / "b.tif", image, photometric="minisblack", compression="zlib")
    np.save(tmp_path / "c.npy", image)
    for name in ("a.tif", "b.tif", "c.npy"):
        decoded, found = read(tmp_path / name, "XYB")
        assert decoded.dim_order == "XYB"
        assert np.array_equal(found[:, 0], np.moveaxis(image, 2, 0))


@pytest.mark.parametrize(
    ("shape", "order", "layout"),
    [
        ((64, 48), "XY", (64, 48)),
        ((64, 48, 2), "XYC", (2, 64, 48)),
        ((2, 64, 48), "CXY", (2, 64, 48)),
        ((64, 48, 5), "XYB", (5, 1, 64, 48)),
        ((5, 64, 48), "BXY", (5, 1, 64, 48)),
        ((5, 64, 48, 2), "BXYC", (5, 2, 64, 48)),
        ((2, 64, 48, 5), "CXYB", (5, 2, 64, 48)),
        ((5, 64, 48), "ZYX", (5, 1, 64, 48)),
        ((5, 64, 48), "TYX", (5, 1, 64, 48)),
    ],
)
@pytest.mark.parametrize("ending", ["tif", "npy"])
def test_every_order_of_the_contract(
    tmp_path: Path, shape: tuple[int, ...], order: str, layout: tuple[int, ...], ending: str
) -> None:
    image = pixels(shape)
    path = tmp_path / f"a.{ending}"
    if ending == "npy":
        np.save(path, image)
    else:
        tifffile.imwrite(path, image, photometric="minisblack")
    decoded, found = read(path, order)
    axes = [order.index(letter) for letter in "BZTC" if letter in order]
    plane = [i for i in range(len(order)) if i not in axes]
    assert decoded.dim_order == order
    assert np.array_equal(found, image.transpose(axes + plane).reshape((1,) * (4 - len(layout)) + layout))


def test_an_option_against_what_the_file_says(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels((6, 40, 48)), photometric="minisblack", metadata={"axes": "TYX"})
    with pytest.raises(InvalidInput, match="XYB does not fit an image of shape 6x40x48 whose axes the file names TYX"):
        read(tmp_path / "a.ome.tif", "XYB")


def test_channels_last_written_page_by_page(tmp_path: Path) -> None:
    image = pixels((64, 48, 2))
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack")
    decoded, found = read(tmp_path / "a.tif")
    assert decoded.dim_order == "XYC"
    assert np.array_equal(found[0], np.moveaxis(image, 2, 0))


def test_a_long_stack_of_small_frames_stays_a_stack(tmp_path: Path) -> None:
    image = pixels((100, 32, 24))
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack")
    assert np.array_equal(read(tmp_path / "a.tif")[1][:, 0], image)


def test_imagej_stacks_with_one_directory(tmp_path: Path) -> None:
    image = pixels((5, 2, 40, 48))
    labels = ["DAPI", "GFP"] * 5
    tifffile.imwrite(
        tmp_path / "a.tif",
        image,
        imagej=True,
        resolution=(4, 4),
        metadata={"axes": "TCYX", "unit": "um", "Labels": labels},
    )
    decoded, found = read(tmp_path / "a.tif")
    assert np.array_equal(found, image)
    assert (decoded.batch_axis, decoded.pixel_size_um) == ("T", 0.25)


def test_imagej_stacks_larger_than_four_gigabytes_have_one_directory(tmp_path: Path) -> None:
    image = pixels((5, 2, 40, 48))
    tifffile.imwrite(tmp_path / "a.tif", image, imagej=True, metadata={"axes": "TCYX"})
    data = bytearray((tmp_path / "a.tif").read_bytes())
    order = "<" if data[:2] == b"II" else ">"
    start = struct.unpack_from(f"{order}I", data, 4)[0]
    count = struct.unpack_from(f"{order}H", data, start)[0]
    struct.pack_into(f"{order}I", data, start + 2 + 12 * count, 0)
    (tmp_path / "a.tif").write_bytes(data)
    assert np.array_equal(read(tmp_path / "a.tif")[1], image)


def test_ome_metadata_that_speaks_of_other_files_is_left_out(tmp_path: Path) -> None:
    image = pixels((2, 40, 48))
    tifffile.imwrite(tmp_path / "a.ome.tif", image, photometric="minisblack", metadata={"axes": "CYX"})
    data = (tmp_path / "a.ome.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        text = file.ome_metadata or ""
    changed = text.replace('SizeC="2"', 'SizeC="9"').replace('PlaneCount="2"', 'PlaneCount="9"')
    assert len(changed) == len(text)
    (tmp_path / "a.ome.tif").write_bytes(data.replace(text.encode(), changed.encode()))
    assert np.array_equal(read(tmp_path / "a.ome.tif")[1][0], image)


def test_ome_metadata_that_is_broken_is_left_out(tmp_path: Path) -> None:
    image = pixels((2, 40, 48))
    tifffile.imwrite(tmp_path / "a.ome.tif", image, photometric="minisblack", metadata={"axes": "CYX"})
    data = (tmp_path / "a.ome.tif").read_bytes()
    (tmp_path / "a.ome.tif").write_bytes(data.replace(b"<Pixels", b"<<ixels"))
    assert np.array_equal(read(tmp_path / "a.ome.tif")[1][0], image)


def test_ome_names_channels_and_units(tmp_path: Path) -> None:
    metadata = {
        "axes": "CYX",
        "PhysicalSizeX": 325,
        "PhysicalSizeXUnit": "nm",
        "Channel": {"Name": ["DAPI", "membrane"]},
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels((2, 40, 48)), photometric="minisblack", metadata=metadata)
    decoded, _ = read(tmp_path / "a.ome.tif")
    assert decoded.channel_names == ("DAPI", "membrane")
    assert decoded.pixel_size_um == pytest.approx(0.325)


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [((20000, 20000), "CENTIMETER", 0.5), ((300, 300), "INCH", None), ((72, 72), "INCH", None), ((1, 1), None, None)],
)
def test_resolution_tags_count_where_they_can_be_a_microscopes(
    tmp_path: Path, resolution: Any, unit: str | None, expected: float | None
) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", pixels((40, 48)), resolution=resolution, resolutionunit=unit or "NONE", metadata=None
    )
    assert read(tmp_path / "a.tif")[0].pixel_size_um == expected


def test_the_highest_resolution_of_a_pyramid(tmp_path: Path) -> None:
    image = pixels((64, 96))
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as file:
        file.write(image, subifds=2, tile=(16, 16), photometric="minisblack", metadata={"axes": "YX"})
        file.write(image[::2, ::2], subfiletype=1, tile=(16, 16), photometric="minisblack")
        file.write(image[::4, ::4], subfiletype=1, tile=(16, 16), photometric="minisblack")
    assert np.array_equal(read(tmp_path / "a.ome.tif")[1][0, 0], image)


def test_white_is_zero_and_bits(tmp_path: Path) -> None:
    image = pixels((40, 48), "u1")
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="miniswhite")
    assert np.array_equal(read(tmp_path / "a.tif")[1][0, 0], 255 - image)
    bits = image > 100
    tifffile.imwrite(tmp_path / "b.tif", bits, photometric="minisblack")
    found = read(tmp_path / "b.tif")[1]
    assert found.dtype == np.uint8
    assert np.array_equal(found[0, 0], bits)


def test_jpeg_within_tiff(tmp_path: Path) -> None:
    image = np.repeat(np.arange(64, dtype=np.uint8)[:, np.newaxis] * 3, 64, axis=1)
    tifffile.imwrite(tmp_path / "a.tif", image, compression="jpeg", photometric="minisblack")
    assert np.abs(read(tmp_path / "a.tif")[1][0, 0].astype(int) - image).max() <= 4


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_png_of_all_kinds_loses_alpha(tmp_path: Path, samples: int, dtype: str) -> None:
    image = pixels((40, 48, samples), dtype)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(image[..., 0] if samples == 1 else image))
    decoded, found = read(tmp_path / "a.png")
    kept = {1: 1, 2: 1, 3: 3, 4: 3}[samples]
    assert found.dtype == image.dtype
    assert np.array_equal(found[0], np.moveaxis(image[..., :kept], 2, 0))
    assert decoded.dim_order == ("XY" if kept == 1 else "XYC")


@pytest.mark.parametrize("samples", [1, 3])
def test_jpeg(tmp_path: Path, samples: int) -> None:
    image = np.repeat(np.arange(64, dtype=np.uint8)[:, np.newaxis] * 3, 48, axis=1)
    image = image if samples == 1 else np.stack([image] * 3, axis=2)
    (tmp_path / "a.jpg").write_bytes(imagecodecs.jpeg8_encode(image, level=100))
    _, found = read(tmp_path / "a.jpg")
    assert found.shape == (1, samples, 64, 48)
    assert np.abs(found[0, 0].astype(int) - image.reshape(64, 48, -1)[..., 0]).max() <= 3


@pytest.mark.parametrize("dtype", ["u1", ">u2", "i4", "f4", ">f8", "?"])
@pytest.mark.parametrize("fortran", [False, True])
def test_npy_of_any_byte_order_and_layout(tmp_path: Path, dtype: str, fortran: bool) -> None:
    image = pixels((7, 40, 48), dtype)
    np.save(tmp_path / "a.npy", np.asfortranarray(image) if fortran else image)
    decoded, found = read(tmp_path / "a.npy")
    assert np.array_equal(found[:, 0], image)
    assert found.dtype.isnative
    assert decoded.batch_axis == "B"


def test_npz_prefers_the_raw_image(tmp_path: Path) -> None:
    image = pixels((40, 48))
    np.savez_compressed(tmp_path / "a.npz", y=np.zeros((3, 3)), raw=image)
    assert np.array_equal(read(tmp_path / "a.npz")[1][0, 0], image)
    np.savez(tmp_path / "b.npz", image)
    assert np.array_equal(read(tmp_path / "b.npz")[1][0, 0], image)


def test_not_a_number_and_infinities_are_kept(tmp_path: Path) -> None:
    image = pixels((40, 48), "f4")
    image[0, :3] = np.nan, np.inf, -np.inf
    tifffile.imwrite(tmp_path / "a.tif", image)
    assert np.array_equal(read(tmp_path / "a.tif")[1][0, 0], image, equal_nan=True)


def test_what_a_killed_decoder_leaves_lies_in_the_jobs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    made = []
    extract = arrays._extract

    def noted(archive: zipfile.ZipFile, name: str, target: Path, limits: ReadLimits) -> None:
        made.append(target)
        extract(archive, name, target, limits)

    monkeypatch.setattr(arrays, "_extract", noted)
    np.savez(tmp_path / "a.npz", np.zeros((8, 9), np.uint8))
    (tmp_path / "job").mkdir()
    request = {"source": str(tmp_path / "a.npz"), "target": str(tmp_path / "job" / "out.npy"), "dimension_order": ""}
    assert "decoded" in helper._answer(request, ReadLimits())
    assert made[0].is_relative_to(tmp_path / "job")
    assert [path.name for path in (tmp_path / "job").iterdir()] == ["out.npy"]
