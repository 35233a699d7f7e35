"""Runs that shorten themselves in order to end in time, and go on from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ..config import Resume, TrainingConfig
from ..errors import RunShortenedError
from ..runs import Run

Config = TypeVar("Config", bound=TrainingConfig)


def train_to_end(
    train: Callable[[Config, Resume, float | None], None],
    config: Config,
    resume: Resume,
    began: float | None,
) -> None:
    """Train a run, and go on with its shorter schedule as often as it is shortened.

    Args:
        train: Trains a configuration, given whether to resume it and when its hours began.
        config: The run.
        resume: Whether to resume the run in `run.output_dir`, if there is one.
        began: When the hours of `run.hours` began, by `time.monotonic`; None for now.
    """
    while True:
        try:
            return train(_as_recorded(config) if resume else config, resume, began)
        except RunShortenedError as shortened:
            resume, began = True, shortened.began


def _as_recorded(config: Config) -> Config:
    """Return a configuration with what its run has recorded of having been shortened."""
    run = Run(Path(config.run.output_dir))
    if not run.exists:
        return config
    recorded = tuple(tuple(numbers) for numbers in run.section("run").get("shortened", ()))
    return replace(config, run=replace(config.run, shortened=recorded))
