"""Arrays that are mapped files: what has been worked on need not stay resident."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray


def let_go(array: NDArray[Any]) -> None:
    """Let the pages of a mapped file leave this process's memory; does nothing to other arrays.

    Nothing is lost: what was written stays with the file, and what is read again comes from there.
    """
    if not isinstance(array, np.memmap) or array.mode not in ("r", "r+", "w+"):
        return
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
