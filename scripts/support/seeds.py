"""Accuracies over seeds: their spread, and differences paired by seed, with 95 % intervals.

SciPy comes with the test tools: pip install -e '.[test]'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from scipy import stats


def spread(values: Sequence[float]) -> str:
    """Return mean ± standard deviation in per cent; a dash if there are no values."""
    if not values:
        return "-"
    deviation = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.2f}{deviation}"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A mean difference over seeds, in percentage points.

    Args:
        mean: The mean of the differences.
        low: Lower end of its 95 % interval.
        high: Upper end of its 95 % interval.
        seeds: Number of pairs.
    """

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def verdict(self) -> str:
        """What the interval allows one to say."""
        if self.low <= 0 <= self.high:
            return "no difference shown"
        return "higher" if self.mean > 0 else "lower"


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    """Return first minus second over their common seeds, with the interval of a paired t-test.

    Args:
        first: Seed -> accuracy in [0, 1].
        second: The same.

    Returns:
        The difference; None for fewer than two common seeds.
    """
    seeds = sorted(first.keys() & second.keys())
    if len(seeds) < 2:
        return None
    values, others = ([100 * scores[seed] for seed in seeds] for scores in (first, second))
    interval = stats.ttest_rel(values, others).confidence_interval(0.95)
    return Difference(
        mean=mean(value - other for value, other in zip(values, others, strict=True)),
        low=float(interval.low),
        high=float(interval.high),
        seeds=len(seeds),
    )
