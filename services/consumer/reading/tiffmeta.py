"""Pixel size and channel names from the metadata that microscopes and programs leave in TIFF files."""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree

# Micrometres of one unit, as OME and ImageJ write them.
_UNITS = {
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0,
    "micrometer": 1.0, "micrometre": 1.0, "\\u00b5m": 1.0,
    "nm": 1e-3, "nanometer": 1e-3, "mm": 1e3, "millimeter": 1e3, "cm": 1e4, "m": 1e6, "å": 1e-4, "pm": 1e-6,
    "inch": 25400.0, "in": 25400.0,
}  # fmt: skip
# ResolutionUnit of TIFF: inch, centimetre, and tifffile's millimetre and micrometre.
_RESOLUTION = {2: 25400.0, 3: 1e4, 4: 1e3, 5: 1.0}
# What a light microscope's pixel can be: programs that know nothing write 72, 96 or 300 dots per inch.
_PLAUSIBLE = (0.001, 20.0)
# Names are for people: some, and not whole texts.
_NAMES, _LETTERS = 256, 80


def pixel_size_um(file: Any, page: Any) -> float | None:
    """Return the width of a pixel in micrometres, from OME, ImageJ, LSM or the resolution tags; None if unknown.

    Resolution tags without a program that is known to mean them count only where they give 0.001 to 20 µm.
    """
    for find in (_of_ome, _of_imagej, _of_lsm, _of_tags):
        try:
            size = find(file, page)
        except (ValueError, TypeError, KeyError, IndexError, ArithmeticError, AttributeError, ElementTree.ParseError):
            continue
        if size is not None and math.isfinite(size) and size > 0:
            return size
    return None


def channel_names(file: Any, series: Any) -> tuple[str, ...]:
    """Return the names of the channels; none where the file does not name them."""
    try:
        if file.is_ome:
            names = [channel.get("Name", "") for channel in _ome_pixels(file).iter() if _tag(channel) == "Channel"]
            return _short(names) if any(names) else ()
        labels = (file.imagej_metadata or {}).get("Labels", ()) if file.is_imagej else ()
        axes = dict(zip(series.axes, series.shape, strict=True))
        if labels and axes.get("C") == len(labels):
            return _short(labels)
        if axes.get("S") == 3 and "C" not in axes:
            return ("red", "green", "blue")
    except (ValueError, TypeError, AttributeError, ElementTree.ParseError):
        pass
    return ()


def _short(names: Any) -> tuple[str, ...]:
    return tuple(str(name)[:_LETTERS] for name in list(names)[:_NAMES])


def _of_ome(file: Any, _page: Any) -> float | None:
    if not file.is_ome:
        return None
    pixels = _ome_pixels(file)
    return float(pixels.get("PhysicalSizeX", "")) * _UNITS[pixels.get("PhysicalSizeXUnit", "µm").lower()]


def _of_imagej(file: Any, page: Any) -> float | None:
    if not file.is_imagej:
        return None
    unit = _UNITS[str(file.imagej_metadata.get("unit", "")).lower()]
    return unit / _per_unit(page)


def _of_lsm(file: Any, _page: Any) -> float | None:
    return float(file.lsm_metadata["VoxelSizeX"]) * 1e6 if file.is_lsm else None


def _of_tags(file: Any, page: Any) -> float | None:
    if file.is_imagej:
        return None
    size = _RESOLUTION[int(page.tags["ResolutionUnit"].value)] / _per_unit(page)
    return size if _PLAUSIBLE[0] <= size <= _PLAUSIBLE[1] else None


def _per_unit(page: Any) -> float:
    dividend, divisor = page.tags["XResolution"].value
    return float(dividend) / float(divisor)


def _ome_pixels(file: Any) -> ElementTree.Element:
    """Return the Pixels element of the first image."""
    root = ElementTree.fromstring(file.ome_metadata)  # noqa: S314  # this process is bounded, and expat caps expansion
    for element in root.iter():
        if _tag(element) == "Pixels":
            return element
    raise ValueError("no Pixels element")


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
