"""Sections of the page."""

from __future__ import annotations

from statistics import mean, stdev

from mae_et.report.arms import spread
from mae_et.report.html import Value
from mae_et.report.sections import decimals, value


def test_mean_and_deviation() -> None:
    values = [80.0, 84.0, 81.0]
    assert spread(values) == (mean(values), stdev(values))
    assert value(values, 2) == Value("81.67", " ± 2.08 (3)")
    assert value([12345.6], 0) == Value("12,346", " (1)")
    assert value([], 2) == Value("–")


def test_decimals_suit_the_largest_number_of_a_column() -> None:
    assert [decimals([[0.001], [number]]) for number in (0.5, 8.5, 85, 850, 8500)] == [
        4,
        3,
        2,
        1,
        0,
    ]
    assert decimals([[], [0.0]]) == 7
