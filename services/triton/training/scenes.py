"""Which generator belongs to which bundled model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from services.triton.training import cells, nuclei
from services.triton.training.nuclei import Scene

Generator = Callable[..., Scene]
"""Random numbers, pixels along a side and, if not the usual, the range of nuclear diameters in pixels."""

GENERATORS: dict[str, Generator] = {
    "NuclearSegmentation": nuclei.nuclei_scene,
    "WholeCellSegmentation": cells.cells_scene,
}
DIAMETERS = {"NuclearSegmentation": nuclei.DIAMETERS, "WholeCellSegmentation": cells.DIAMETERS}


def scene_at(model: str, rng: np.random.Generator, size: int, zoom: float) -> Scene:
    """A scene of ``size`` x ``size`` pixels whose objects have the usual diameters once it is resized by ``zoom``."""
    low, high = DIAMETERS[model]
    return GENERATORS[model](rng, size, (low / zoom, high / zoom))
