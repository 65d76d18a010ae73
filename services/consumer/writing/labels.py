"""Label images as TIFF files that everything can open."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from services.consumer.imaging.mapped import let_go
from services.consumer.writing.deflate import compress

#: Bytes of a strip before compression.
_STRIP = 1 << 20
#: Bytes of a mapped file that stay resident while it is read.
_KEPT = 1 << 25
#: Bytes of pixels from which offsets of 32 bits may not do.
_BIG = 1 << 31


def write_labels(
    path: Path, labels: NDArray[Any], *, pixel_size_um: float | None, description: Mapping[str, str]
) -> None:
    """Write labels as an OME-TIFF of int32, one page for each frame.

    Compressed strip by strip (deflate), so that a memory map of any size is never held whole. Strips and not
    tiles, since ImageJ itself reads no tiles; BigTIFF from 2 GiB of pixels on.

    Args:
        path: to write.
        labels: integers (Y, X) or (T, Y, X), 0 background.
        pixel_size_um: width and height of a pixel; None if unknown.
        description: what to say of how the labels were made; becomes the OME description, as JSON.
    """
    shape = labels.shape
    metadata: dict[str, Any] = {"axes": "TYX"[-labels.ndim :], "Description": json.dumps(dict(description))}
    if pixel_size_um:
        for axis in "XY":
            metadata |= {f"PhysicalSize{axis}": pixel_size_um, f"PhysicalSize{axis}Unit": "µm"}
    rows = max(1, min(shape[-2], _STRIP // max(1, 4 * shape[-1])))
    with tifffile.TiffWriter(path, bigtiff=4 * labels.size > _BIG, ome=True) as file:
        file.write(
            _strips(labels, rows, "<" if sys.byteorder == "little" else ">"),
            shape=shape,
            dtype=np.int32,
            rowsperstrip=rows,
            compression="zlib",
            photometric="minisblack",
            software="CellKiosk",
            metadata=metadata,
            resolution=(1e4 / pixel_size_um, 1e4 / pixel_size_um) if pixel_size_um else None,
            resolutionunit="CENTIMETER" if pixel_size_um else None,
        )


def _strips(labels: NDArray[Any], rows: int, order: str) -> Iterator[bytes]:
    """Yield compressed strips; of a memory map, what was read leaves the resident set."""
    read = 0
    for frame in labels if labels.ndim == 3 else (labels,):
        for top in range(0, frame.shape[0], rows):
            strip = np.ascontiguousarray(frame[top : top + rows], f"{order}i4")
            yield compress(strip.tobytes())
            read += strip.nbytes
            if read > _KEPT:
                let_go(labels)
                read = 0
