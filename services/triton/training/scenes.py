"""Which generator belongs to which bundled model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from services.triton.training.cells import cells_scene
from services.triton.training.nuclei import Scene, nuclei_scene

Generator = Callable[[np.random.Generator, int], Scene]

GENERATORS: dict[str, Generator] = {"NuclearSegmentation": nuclei_scene, "WholeCellSegmentation": cells_scene}
