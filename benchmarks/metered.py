"""A network of the benchmark's own (``net.py``): one in ONNX that writes down the processor time of its own runs."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.dense import Net
from shared.dense.weights import load_net

COUNTED = Path("counted")  # the file that takes the seconds, outside the repository, which would be loaded again


def load(folder: Path, threads: int) -> Net:
    """The network in ``folder/onnx``; what other threads than the calling one do is not counted."""
    if threads != 1:
        raise ValueError("The time is counted of one thread.")
    net, spent = load_net(folder / "onnx", threads), 0.0

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal spent
        began = time.thread_time()
        result = net(batch)
        spent += time.thread_time() - began
        COUNTED.write_text(str(spent))
        return result

    return run
