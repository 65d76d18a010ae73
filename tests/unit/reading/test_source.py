"""Arrays copied piece by piece into another order of axes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.consumer.imaging.axes import Axes
from services.consumer.reading import source as module
from services.consumer.reading.source import Source, Target, copy_raw, pieces, stacked

SHAPES = st.lists(st.integers(1, 7), min_size=1, max_size=5).map(tuple)


@settings(max_examples=100, deadline=None)
@given(SHAPES, st.integers(1, 8), st.integers(1, 400))
def test_pieces_cover_an_array_once_in_order(shape: tuple[int, ...], itemsize: int, limit: int) -> None:
    array = np.arange(math.prod(shape)).reshape(shape)
    found = [array[region] for region in pieces(shape, itemsize, limit)]
    assert np.array_equal(np.concatenate([np.ravel(piece) for piece in found]), array.ravel())
    assert all(np.size(piece) * itemsize <= max(limit, itemsize) for piece in found)


@pytest.mark.parametrize("order", ["YX", "YXC", "CYX", "TZCYX", "YXB", "CYXB", "BYXC", "XTYC", "CYXS"])
@pytest.mark.parametrize("fortran", [False, True])
def test_any_order_of_axes_in_small_pieces(
    tmp_path: Path, order: str, fortran: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 50)
    monkeypatch.setattr(module.pieces, "__defaults__", (60,))
    shape = tuple({"Y": 7, "X": 5, "C": 2, "S": 3, "T": 4, "Z": 3, "B": 3}[letter] for letter in order)
    array = np.random.default_rng(0).integers(0, 60_000, shape).astype(">u2")
    raw = tmp_path / "raw"
    raw.write_bytes(b"head" + array.tobytes(order="F" if fortran else "C"))
    axes = Axes(order, "option")
    target = Target(tmp_path / "out.npy", Source(shape, array.dtype, print), axes)
    copy_raw(raw, 4, array.dtype, shape, target, fortran=fortran)
    target.close()
    found = np.load(tmp_path / "out.npy")
    layout = [*axes.of("BTZ"), *axes.of("CS"), *axes.of("XY")]
    assert found.shape == stacked(shape, axes)
    assert found.dtype == np.uint16
    assert np.array_equal(found, array.transpose(layout).reshape(found.shape))
