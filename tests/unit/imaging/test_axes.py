"""Orders of axes: metadata, rule, option, contradictions."""

from __future__ import annotations

import pytest

from services.consumer.imaging.axes import decide, guess
from shared.errors import InvalidInput


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((64, 48), "YX"),
        ((64, 48, 3), "YXC"),
        ((2, 64, 48), "CYX"),
        ((30, 64, 48), "BYX"),
        ((64, 48, 30), "YXB"),
        ((30, 64, 48, 2), "BYXC"),
        ((2, 64, 48, 30), "CYXB"),
        ((30, 2, 64, 48), "BCYX"),
        ((2, 3, 64, 48), "BCYX"),
        ((50, 50, 50), "BYX"),
        ((100, 64, 64), "BYX"),
        ((64, 64, 100), "YXB"),
        ((3, 3, 64, 48), "BCYX"),
        ((7, 5, 2, 64, 48), "BTCYX"),
        ((1, 64, 48), "BYX"),
        ((1, 1), "YX"),
    ],
)
def test_the_rule(shape: tuple[int, ...], order: str) -> None:
    assert guess(shape) == order


def test_metadata_comes_before_the_rule() -> None:
    axes = decide((2, 64, 48), "TYX")
    assert (axes.order, axes.source, axes.dim_order) == ("TYX", "metadata", "BXY")


def test_the_rule_keeps_what_the_file_names() -> None:
    axes = decide((3, 64, 48), "?YX")
    assert (axes.order, axes.source) == ("CYX", "rule")
    assert decide((64, 2, 48), "Y?X").order == "YCX"


@pytest.mark.parametrize(
    ("shape", "option", "order", "dim_order"),
    [
        ((64, 48), "XY", "XY", "XY"),
        ((64, 48, 2), "xyc", "XYC", "XYC"),
        ((2, 64, 48), "CXY", "CXY", "CXY"),
        ((2, 64, 48), "BXY", "BXY", "BXY"),
        ((64, 48, 9), "XYB", "XYB", "XYB"),
        ((9, 64, 48, 1), "BXYC", "BXYC", "BXYC"),
        ((2, 64, 48, 9), "CXYB", "CXYB", "CXYB"),
        ((9, 64, 48), "TYX", "TYX", "BXY"),
        ((9, 64, 48), "ZYX", "ZYX", "BXY"),
        ((1, 64, 48), "XY", "ZXY", "BXY"),
        ((64, 48), "XYC", "XY", "XY"),
        ((9, 64, 48), "BXYC", "BXY", "BXY"),
    ],
)
def test_the_option(shape: tuple[int, ...], option: str, order: str, dim_order: str) -> None:
    axes = decide(shape, "", option)
    assert (axes.order, axes.source, axes.dim_order) == (order, "option", dim_order)


@pytest.mark.parametrize(
    ("shape", "metadata", "option"),
    [
        ((64, 48, 3), "YXS", "BXY"),
        ((2, 64, 48), "CYX", "XYC"),
        ((2, 64, 48), "", "XY"),
        ((64, 48), "", "HELLO"),
        ((64, 48), "", "XX"),
        ((64, 48), "", "XC"),
    ],
)
def test_a_contradiction_names_what_is_allowed(shape: tuple[int, ...], metadata: str, option: str) -> None:
    with pytest.raises(InvalidInput, match=r"allowed are XY|fitting are|none of the usual"):
        decide(shape, metadata, option)


def test_fitting_orders_are_named() -> None:
    with pytest.raises(InvalidInput, match=r"64x48x3 whose axes the file names YXS; fitting are XYC, or"):
        decide((64, 48, 3), "YXS", "CXY")


def test_a_line_is_no_image() -> None:
    with pytest.raises(InvalidInput, match="at least two axes"):
        decide((64,))


def test_too_many_axes() -> None:
    with pytest.raises(InvalidInput, match="more axes"):
        guess((9, 9, 9, 9, 9, 64, 48))
