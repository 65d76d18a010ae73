"""What the page shows of a job: the image and what was found on it, in a small picture and in one file of tiles."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.consumer.imaging.normalise import plane_window
from services.consumer.reading import Decoded
from services.consumer.tools import Tools, each
from services.consumer.writing import ViewWriter, write_preview

#: What people call the kinds of objects of a model's card.
SHOWN = {"whole-cell": "whole cells", "nuclear": "nuclei"}
#: Pixels of a channel from which its window is found, about.
_SAMPLE = 1 << 20
#: Planes that are looked at for it, at most.
_PLANES = 5
#: Runs of planes on their way into the file at once, and pixels of those that a thread takes in one go.
_AT_ONCE, _PIXELS = 2, 1 << 20


class Frames:
    """Planes (1, H, W) that lie in some files, one after the other; mapped."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Take .npy files of (n, H, W)."""
        self._parts = [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]
        self._ends = list(itertools.accumulate(map(len, self._parts)))

    def __len__(self) -> int:
        """Return how many there are."""
        return self._ends[-1]

    def __getitem__(self, number: int) -> NDArray[Any]:
        """Return a plane."""
        part = bisect.bisect_right(self._ends, number)
        plane: NDArray[Any] = self._parts[part][number - self._ends[part]]  # counted from its end
        return plane[np.newaxis]

    @property
    def lengths(self) -> list[int]:
        """How many each file holds."""
        return [len(part) for part in self._parts]


class View:
    """Takes what a pipeline finds, plane by plane; `services.consumer.results.finish` adds the image and stores it.

    A job that is marked ``preview: no``, as are most images of an archive, gets none.
    """

    def __init__(
        self,
        tools: Tools,
        image: NDArray[Any] | Frames,
        decoded: Decoded | None = None,
        *,
        channel: int = 0,
        layers: Sequence[str] = ("cells",),
        axis: str = "",
        pixel_size_um: float | None = None,
    ) -> None:
        """Begin.

        Args:
            tools: of the job.
            image: planes (C, H, W), any real dtype; read band by band, so that each may be a memory map.
            decoded: what is known of the image.
            channel: the one to show first.
            layers: names of the kinds of labels.
            axis: what the planes are, as `Decoded.batch_axis`; of ``decoded`` where empty.
            pixel_size_um: width and height of a pixel; of ``decoded`` where None.
        """
        self._tools, self._image, self._channel = tools, image, channel
        self._names = decoded.channel_names if decoded else ()
        self._about = {
            "axis": axis or (decoded.batch_axis if decoded else ""),
            "layers": [SHOWN.get(layer, layer) for layer in layers],
            "pixel_size_um": pixel_size_um or (decoded.pixel_size_um if decoded else None),
        }
        self._first: NDArray[Any] | None = None
        self._wanted = tools.job.fields.get("preview") != "no"
        self._path = tools.scratch / "cells.view"
        self._writer = ViewWriter(self._path, self._image[0].shape[1:]) if self._wanted else None

    async def labels(self, plane: int, layer: int, labels: NDArray[Any]) -> None:
        """Show labels, integers (H, W), or (n, H, W) of so many planes from this one on."""
        if self._writer is None:
            return
        planes = labels if labels.ndim == 3 else labels[np.newaxis]
        if (plane, layer) == (0, 0):
            self._first = planes[0]

        def write(writer: ViewWriter) -> None:
            for number, one in enumerate(planes, plane):
                writer.labels(number, layer, one)

        await self._tools.compute(write, self._writer)

    async def points(self, plane: int, positions: NDArray[np.float64], cells: NDArray[np.int32] | None = None) -> None:
        """Show points, float (n, 2) of y and x, and the cell that each lies in, if that was asked."""
        if self._writer is not None:
            await self._tools.compute(self._writer.points, plane, positions, cells)

    def tracks(self, lineage: Mapping[str, Mapping[str, Any]]) -> None:
        """Show which labels are one cell over time, and which came from which."""
        if self._writer is not None:
            self._writer.tracks(lineage)

    async def save(self) -> dict[str, str]:
        """Add the image, store all, and return the facts that name the files."""
        if self._writer is None:
            return {}
        windows = await self._tools.compute(self._windows)
        several = max(1, _PIXELS // math.prod(self._image[0].shape))
        numbers = range(len(self._image))
        runs = (numbers[first : first + several] for first in numbers[::several])
        await each((self._tools.compute(self._planes, run, windows) for run in runs), _AT_ONCE)
        channels = [
            {"name": name, "low": float(window[0, 0]), "high": float(window[0, 1])}
            for name, window in zip(self._channel_names(), windows, strict=True)
        ]
        about = {**self._about, "planes": len(self._image), "channels": channels, "channel": self._channel}
        await self._tools.compute(self._writer.close, about)
        picture = self._tools.scratch / "preview.png"
        await self._tools.compute(write_preview, self._image[0][self._channel], self._first, picture)
        return {
            "preview_file_name": await self._tools.save(picture, "preview.png", "image/png"),
            "view_file_name": await self._tools.save(self._path, "cells.view", "application/octet-stream"),
        }

    def _planes(self, numbers: Sequence[int], windows: Sequence[NDArray[np.float32]]) -> None:
        assert self._writer is not None
        for number in numbers:
            image = self._image[number]
            for channel, window in enumerate(windows):
                self._writer.image(number, channel, image[channel], window)

    def _windows(self) -> list[NDArray[np.float32]]:
        """Return one window for all planes of each channel: a movie must not flicker."""
        count = len(self._image)
        chosen = [self._image[n] for n in range(0, count, max(1, -(-count // _PLANES)))]
        step = max(1, math.isqrt(len(chosen) * math.prod(chosen[0].shape[1:]) // _SAMPLE))
        return [
            plane_window(np.concatenate([plane[channel, ::step, ::step] for plane in chosen]))
            for channel in range(chosen[0].shape[0])
        ]

    def _channel_names(self) -> list[str]:
        count = self._image[0].shape[0]
        names = list(self._names[:count])
        return names + [f"Channel {number}" for number in range(len(names), count)]
