"""Time steps, alone or in turns, so that a machine that slows down slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch

Step = Callable[[], object]
Item = TypeVar("Item")


def seconds_of(step: Step, device: str) -> float:
    """Return the seconds that a step takes, until the device is done."""
    start = time.perf_counter()
    step()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def median_seconds(step: Step, number: int, device: str) -> float:
    """Return the seconds of a step: the median of `number` steps, after two to warm up."""
    return statistics.median([seconds_of(step, device) for _ in range(2 + number)][2:])


def rotated(items: Sequence[Item], number: int) -> list[Item]:
    """Return the items in the order of a round: each round begins with the next one."""
    first = number % len(items)
    return [*items[first:], *items[:first]]


def alternated(steps: Mapping[str, Step], rounds: int, device: str) -> dict[str, list[float]]:
    """Return the seconds of each step in each round, after two rounds to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(-2, rounds):
        for name in rotated(list(steps), number):
            taken = seconds_of(steps[name], device)
            if number >= 0:
                seconds[name].append(taken)
    return seconds


def median_ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """Return first divided by second: the median of the ratios within a round."""
    return statistics.median(one / other for one, other in zip(first, second, strict=True))
