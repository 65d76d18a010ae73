"""Letting go of mapped pages loses nothing and does nothing to other arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from services.consumer.imaging.mapped import let_go


def test_what_was_written_stays(tmp_path: Path) -> None:
    mapped = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.int32, (500, 400))
    mapped[...] = np.arange(200_000).reshape(500, 400)
    let_go(mapped)
    let_go(mapped[3:7])
    assert np.array_equal(mapped.ravel(), np.arange(200_000))
    assert np.array_equal(np.load(tmp_path / "a.npy", mmap_mode="r").ravel(), np.arange(200_000))


def test_private_copies_and_plain_arrays_are_left_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(5000))
    private = np.load(tmp_path / "a.npy", mmap_mode="c")
    private[...] = 3
    let_go(private)
    assert (private == 3).all()
    plain = np.full(9, 4)
    let_go(plain)
    assert (plain == 4).all()
