"""What is shown when data are opened: what they hold, in words; no bars and warnings of others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import datasets

from ..errors import say_once
from ..workers import cpu_cores


def describe_counts(counts: Mapping[str, int], num_classes: int = 0) -> str:
    """Return words such as "train 96, test 24 images, 3 classes".

    Args:
        counts: The number of images of each split. That of "train" is not named if it is the only
            one: data without splits are called so, and nothing need be trained.
        num_classes: The number of classes; 0 if it is not known.
    """
    numbers = ", ".join(f"{split} {number:,}" for split, number in counts.items())
    if counts.keys() == {"train"}:
        numbers = numbers.removeprefix("train ")
    classes = f", {num_classes:,} class{'es' * (num_classes > 1)}" if num_classes else ""
    return f"{numbers} image{'s' * (numbers != '1')}{classes}"


@contextmanager
def without_bars() -> Iterator[None]:
    """Show no bars of `datasets`, which stand in log files for reading and writing local files."""
    if datasets.are_progress_bars_disabled():
        yield
        return
    _switch(datasets.disable_progress_bars)
    try:
        yield
    finally:
        _switch(datasets.enable_progress_bars)


def _switch(switch: Callable[[], None]) -> None:
    with warnings.catch_warnings(action="ignore"):  # where the environment asks for bars
        switch()


def warn_of_workers(num_workers: int) -> None:
    """Say so if there are more workers than cores."""
    cores = cpu_cores()
    if num_workers > cores:
        named = f"{cores} CPU core{'s' if cores > 1 else ''}"
        say_once(
            f"num_workers {num_workers} is more than the {named} of this process: with {cores}, "
            "loading is as fast and takes less memory"
        )
