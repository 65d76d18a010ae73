"""Windows, rescaling, dtypes on the wire, local contrast."""

from __future__ import annotations

import numpy as np
import pytest

from services.consumer.imaging import normalise
from services.consumer.imaging.normalise import equalise, plane_window, rescale, to_wire
from shared.errors import InvalidInput


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.int32, np.int16, np.uint32, np.float64])
def test_a_window_is_the_percentiles(dtype: type) -> None:
    rng = np.random.default_rng(1)
    plane = rng.integers(0, 255, (120, 130)).astype(dtype)
    window = plane_window(plane, low=1, high=99)
    expected = np.percentile(plane, [1, 99], method="inverted_cdf")
    assert window.dtype == np.float32
    np.testing.assert_array_equal(window, [expected])


def test_channels_have_their_own_windows_and_zeros_can_be_left_out() -> None:
    plane = np.zeros((10, 10, 2), np.uint16)
    plane[0, :5, 0] = [10, 20, 30, 40, 5000]
    plane[..., 1] = 7
    window = plane_window(plane, low=0, high=80, nonzero=True)
    np.testing.assert_array_equal(window, [[0, 40], [0, 7]])


def test_large_planes_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    plane = np.random.default_rng(2).integers(0, 60000, (300, 50)).astype(np.uint16)
    whole = normalise.histogram(plane)
    monkeypatch.setattr(normalise, "HISTOGRAM_PART", 700)
    np.testing.assert_array_equal(normalise.histogram(plane), whole)
    np.testing.assert_array_equal(whole, np.bincount(plane.ravel(), minlength=65536))


def test_large_float_planes_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalise, "SAMPLE", 1000)
    plane = np.random.default_rng(3).random((400, 400))
    low, high = plane_window(plane, low=5, high=95)[0]
    assert low == pytest.approx(0.05, abs=0.03)
    assert high == pytest.approx(0.95, abs=0.03)


def test_nan_and_infinities_are_no_intensities() -> None:
    plane = np.linspace(0, 100, 10_000).reshape(100, 100).astype(np.float32)
    plane[0, :3] = np.nan, np.inf, -np.inf
    window = plane_window(plane, low=0, high=100)
    assert window[0, 0] == pytest.approx(0, abs=0.1)
    assert window[0, 1] == 100
    unit = rescale(plane[..., np.newaxis], window)
    assert unit[0, :3, 0].tolist() == [0, 1, 0]
    assert np.isfinite(unit).all()


@pytest.mark.parametrize(
    "plane",
    [
        np.full((5, 5), 9, np.uint8),
        np.full((5, 5), np.nan),
        np.zeros((0, 5)),
        np.full((4, 4), 1e300),
        np.ones((1, 1), bool),
    ],
)
def test_without_contrast_all_is_zero(plane: np.ndarray) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        unit = rescale(to_wire(plane)[..., np.newaxis], plane_window(to_wire(plane)))
    assert unit.shape == (*plane.shape, 1)
    assert not unit.any()


def test_rescale_clips() -> None:
    plane = np.array([[[0], [10], [15], [20], [255]]], np.uint8)
    np.testing.assert_allclose(rescale(plane, np.array([[10, 20]], np.float32)).ravel(), [0, 0, 0.5, 1, 1])


@pytest.mark.parametrize(
    ("plane", "dtype"),
    [
        (np.zeros((2, 2), np.uint8), np.uint8),
        (np.zeros((2, 2), bool), np.uint8),
        (np.full((2, 2), 65535, np.int32), np.uint16),
        (np.full((2, 2), 65536, np.int32), np.float32),
        (np.full((2, 2), -1, np.int16), np.float32),
        (np.zeros((2, 2), np.float16), np.float32),
        (np.zeros((2, 2), np.float64), np.float32),
    ],
)
def test_dtypes_on_the_wire(plane: np.ndarray, dtype: type) -> None:
    sent = to_wire(plane)
    assert sent.dtype == dtype
    np.testing.assert_array_equal(sent, plane)


def test_complex_pixels_are_refused() -> None:
    with pytest.raises(InvalidInput, match="complex64"):
        to_wire(np.zeros((2, 2), np.complex64))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_equalising_lifts_what_is_dim_in_one_place(dtype: type) -> None:
    x = np.mgrid[:256, :256][1]
    plane = (np.random.default_rng(5).integers(0, 21, x.shape) + 200 * (x > 128)).astype(dtype)
    flat = equalise(plane)
    assert flat.shape == plane.shape
    assert flat.dtype == np.uint8
    before, after = np.ptp(plane[:, :64].astype(float)) / 220, np.ptp(flat[:, :64].astype(float)) / 255
    assert after > 1.5 * before
    assert not equalise(np.full((9, 9), 5, dtype)).any()
    assert equalise(np.zeros((3, 2, 2), dtype)).shape == (3, 2, 2)
