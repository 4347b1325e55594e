"""Numbers read as they should."""

import pytest

from reports.numbers import number, percent, quantity


@pytest.mark.parametrize(("value", "text"), [
    (0, "0"), (1234567, "1,234,567"), (4.25, "4.250"), (10.0, "10"), (1234.56, "1,235"),
    (0.05, "0.05000"), (0.00012, "1.200e-04"), (-3.5, "-3.500"), (2e20, "2.000e+20"),
])
def test_number(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("value", "text"), [
    (0, "0 J"), (0.0123, "12.30 mJ"), (1.0, "1.000 J"), (4.8e-4, "480.0 µJ"), (2.5e15, "2,500 TJ"),
    (3e-15, "0.003000 pJ"), (-0.5, "-500.0 mJ"),
])
def test_quantity(value: float, text: str) -> None:
    assert quantity(value, "J") == text


def test_percent() -> None:
    assert percent(1, 8) == "12.5 %"
    assert percent(1, 0) == "–"
