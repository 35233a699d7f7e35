"""Seconds of things that take turns in one process: a machine that slows down does so for all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

Step = Callable[[], object]


def alternated(steps: Mapping[str, Step], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each step in each round, after two rounds to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for number in range(-2, rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = time.perf_counter()
            steps[name]()
            if device != "cpu":
                torch.cuda.synchronize()
            if number >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """First by second: the median of the ratios within a round."""
    return statistics.median(one / other for one, other in zip(first, second, strict=True))
