"""Sections of the page."""

from __future__ import annotations

from statistics import mean, stdev

from mae_et.report.arms import spread
from mae_et.report.sections import mean_and_deviation


def test_mean_and_deviation() -> None:
    values = [80.0, 84.0, 81.0]
    assert spread(values) == (mean(values), stdev(values))
    assert mean_and_deviation(values, "{:.2f}") == "81.67 ± 2.08 (3)"
    assert mean_and_deviation([80.0], "{:.2f}") == "80.00 (1)"
    assert mean_and_deviation([], "{:.2f}") == "–"
