"""Real training steps at each size, on this device and from this loader, to foretell a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice

from accelerate.utils import broadcast_object_list

from .. import data
from ..curriculum import Size, Stage
from ..pretrain import Pretrainer
from ..training import Meter

ROUNDS = 3
"""Times that each size is measured, in turn, so that a machine that slows down does so for all."""


SECONDS, FEWEST, MOST = 2.0, 3, 64
"""What a round takes at a size, within these numbers of steps (fewer if the stage has no more)."""


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of an optimizer step, and those of them that went into waiting for images."""

    seconds: float
    waited: float


def measure_steps(
    trainer: Pretrainer,
    images: data.Samples | data.StreamedSamples,
    chunk_size: int,
    num_workers: int,
) -> dict[Size, StepTime]:
    """The time of a step at each size of a run: that of the median round.

    All processes take part. The steps are real ones: afterwards, the weights are not what they
    were.
    """
    stages = {stage.size: stage for stage in reversed(trainer.schedule.stages)}  # the first of each
    rounds = [
        {
            size: _measure(trainer, images, stage, chunk_size, num_workers)
            for size, stage in stages.items()
        }
        for _ in range(ROUNDS)
    ]
    return {
        size: sorted((times[size] for times in rounds), key=lambda time: time.seconds)[ROUNDS // 2]
        for size in stages
    }


def _measure(
    trainer: Pretrainer,
    images: data.Samples | data.StreamedSamples,
    stage: Stage,
    chunk_size: int,
    num_workers: int,
) -> StepTime:
    """The mean over some steps of a stage; the first, in which workers start, is left out."""
    accelerator, batch_size = trainer.accelerator, trainer.optim_config.batch_size
    steps = range(stage.start, stage.stop)[: MOST + 2]
    world = accelerator.num_processes
    num_chunks = batch_size // world // chunk_size
    loader = data.load_steps(
        images,
        steps.start,
        steps.stop,
        chunk_size=chunk_size,
        rank=accelerator.process_index,
        world=world,
        num_workers=num_workers,
        pin_memory=accelerator.device.type == "cuda",
    )
    meter = Meter(accelerator, trainer.optim_config.max_skipped_steps)
    chunks, upcoming = meter.timed(iter(loader)), iter(steps)

    def take(number: int) -> StepTime:
        for step in islice(upcoming, number):
            loss, norm = trainer.train_step(step, chunks, num_chunks)
            meter.add(loss, norm, batch_size)
        seen = meter.read()
        seconds = seen["seconds"] / number
        return StepTime(seconds=seconds, waited=seconds * seen["data_wait"])

    time, left = take(1), len(steps) - 1
    if left > 1:
        time, left = take(1), left - 1
    number = [min(max(math.ceil(SECONDS / time.seconds), FEWEST), left)]
    broadcast_object_list(number)  # as many in every process
    return take(number[0]) if number[0] else time
