"""Measure real training steps at each size, on this device and from this loader."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice
from typing import Any

from accelerate.utils import broadcast_object_list

from ..curriculum import Size, Stage
from ..training import Meter, RunImages, Trainer

ROUNDS = 3
"""How often each size is measured, in turn, so that a machine that slows down affects all alike."""


SECONDS, FEWEST, MOST = 2.0, 3, 64
"""Seconds of a round at a size, within these numbers of steps (fewer if the stage is shorter)."""


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of an optimizer step, and how many of them were spent waiting for images."""

    seconds: float
    waited: float


def measure_steps(
    trainer: Trainer[Any, Any], images: RunImages, *, rounds: int = ROUNDS, seconds: float = SECONDS
) -> dict[Size, StepTime]:
    """Return the time of a step at each size of a run, taken from the median round.

    All processes take part. The steps are real ones, so they change the weights.

    Args:
        trainer: The trainer, which takes the steps.
        images: The images of the run.
        rounds: How often each size is measured.
        seconds: About how long a round at a size takes, after its first step.
    """
    stages = {stage.size: stage for stage in reversed(trainer.schedule.stages)}  # the first of each
    measured = [
        {size: _measure(trainer, images, stage, seconds) for size, stage in stages.items()}
        for _ in range(rounds)
    ]
    return {
        size: sorted((times[size] for times in measured), key=lambda time: time.seconds)[
            rounds // 2
        ]
        for size in stages
    }


def _measure(
    trainer: Trainer[Any, Any], images: RunImages, stage: Stage, at_least: float
) -> StepTime:
    """Return the mean over some steps of a stage, excluding the first, in which workers start."""
    config, accelerator = trainer.config, trainer.accelerator
    steps = range(stage.start, stage.stop)[: MOST + 2]
    num_chunks = images.num_chunks(config, accelerator)
    loader = images.load_steps(config, accelerator, steps.start, steps.stop)
    meter = Meter(accelerator, config.optim.max_skipped_steps)
    chunks, upcoming = meter.timed(iter(loader)), iter(steps)

    def take(number: int) -> StepTime:
        for step in islice(upcoming, number):
            loss, norm = trainer.train_step(step, chunks, num_chunks)
            meter.add(loss, norm, stage.times * config.optim.batch_size)
        seen = meter.read()
        seconds = seen["seconds"] / number
        return StepTime(seconds=seconds, waited=seconds * seen["data_wait"])

    time, left = take(1), len(steps) - 1
    if left > 1:
        time, left = take(1), left - 1
    number = [min(max(math.ceil(at_least / time.seconds), FEWEST), left)]
    broadcast_object_list(number)  # the same number in every process
    return take(number[0]) if number[0] else time
