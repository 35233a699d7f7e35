"""Runs that change their schedule in order to end in time, and go on from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ..config import Resume, TrainingConfig
from ..errors import RunReplannedError
from ..runs import Run

Config = TypeVar("Config", bound=TrainingConfig)


def train_to_end(
    train: Callable[[Config, Resume, float | None], None],
    config: Config,
    resume: Resume,
    began: float | None,
) -> None:
    """Train a run, and go on as often as the rest of its schedule is replanned.

    Args:
        train: Trains a configuration, given whether to resume it and when its hours began.
        config: The run.
        resume: Whether to resume the run in `run.output_dir`, if there is one.
        began: When the hours of `run.hours` began, by `time.monotonic`; None for now.
    """
    while True:
        try:
            return train(_as_recorded(config) if resume else config, resume, began)
        except RunReplannedError as replanned:
            resume, began = True, replanned.began


def _as_recorded(config: Config) -> Config:
    """Return a configuration with what its run has recorded of having been replanned."""
    run = Run(Path(config.run.output_dir))
    if not run.exists:
        return config
    recorded = tuple(tuple(numbers) for numbers in run.section("run").get("replanned", ()))
    return replace(config, run=replace(config.run, replanned=recorded))
