"""Accuracies over seeds: their spread, and differences paired by seed, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % quantiles of Student's t for 1 … 9 degrees of freedom."""

MOST_SEEDS = len(T_QUANTILES) + 1


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation in per cent; a dash for no value."""
    if not values:
        return "-"
    deviation = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.2f}{deviation}"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Percentage points: the mean, and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def verdict(self) -> str:
        """What the interval allows to say."""
        if self.low <= 0 <= self.high:
            return "no difference shown"
        return "higher" if self.mean > 0 else "lower"


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    """First minus second over the seeds that both have; None for fewer than two.

    Args:
        first: seed -> accuracy in [0, 1]; at most MOST_SEEDS of them.
        second: likewise.
    """
    values = [100 * (first[seed] - second[seed]) for seed in sorted(first.keys() & second.keys())]
    if len(values) < 2:
        return None
    half = T_QUANTILES[len(values) - 2] * stdev(values) / len(values) ** 0.5
    middle = mean(values)
    return Difference(mean=middle, low=middle - half, high=middle + half, seeds=len(values))
