"""Seconds of things that take turns: a machine that slows down does so for all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch

Step = Callable[[], object]


def seconds_of(step: Step, device: str) -> float:
    """Seconds that a step takes, until the device is done."""
    start = time.perf_counter()
    step()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def alternated(timers: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each in each round, after two rounds to warm up.

    Args:
        timers: do something and return its seconds.
        rounds: each begins with another one.
    """
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    names = list(timers)
    for number in range(-2, rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            taken = timers[name]()
            if number >= 0:
                seconds[name].append(taken)
    return seconds


def alternated_steps(steps: Mapping[str, Step], rounds: int, device: str) -> dict[str, list[float]]:
    """The same for steps of this process."""
    return alternated({name: partial(seconds_of, steps[name], device) for name in steps}, rounds)


def median_ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """First by second: the median of the ratios within a round."""
    return statistics.median(one / other for one, other in zip(first, second, strict=True))
