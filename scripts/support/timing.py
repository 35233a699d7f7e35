"""Seconds of things, alone or in turns: a machine that slows down then does so for all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

Step = Callable[[], object]


def seconds_of(step: Step, device: str) -> float:
    """Seconds that a step takes, until the device is done."""
    start = time.perf_counter()
    step()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def median_seconds(step: Step, number: int, device: str) -> float:
    """Seconds of a step: the median of some, after two to warm up."""
    return statistics.median([seconds_of(step, device) for _ in range(2 + number)][2:])


def alternated(steps: Mapping[str, Step], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each step in each round, after two rounds to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for number in range(-2, rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            taken = seconds_of(steps[name], device)
            if number >= 0:
                seconds[name].append(taken)
    return seconds


def median_ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """First by second: the median of the ratios within a round."""
    return statistics.median(one / other for one, other in zip(first, second, strict=True))
