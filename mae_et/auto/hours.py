"""What is tried and measured: how many images fit at a time, how fast steps are, what fits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, find_executable_batch_size

from ..build import build_images, build_model
from ..config import PretrainConfig
from ..curriculum import Curriculum, Size, as_pair
from ..model import MaskedModel, training_flops
from ..planning.measure import StepTime, measure_steps
from ..pretraining import Pretrainer
from ..training import RunImages, Trainer, make_accelerator

CHECKPOINT_SECONDS = 900.0
"""Seconds between checkpoints: what a crash may cost."""

EVALUATIONS, EVALUATION_SHARE = 10, 0.02
"""Evaluations of a run at most, and the most that they may take of it."""

MOST_MEMORY = 0.85
"""The most of a GPU's memory that a trial may take; the exchange of gradients comes on top."""

MARGIN = 0.985
"""The share of the time left that is planned: a run that ends early is nearer to what was asked."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast a configuration trains here."""

    images: dict[Size, int]
    """The images of an optimizer step at each size."""
    steps: dict[Size, StepTime]
    """The time of an optimizer step at each size."""
    evaluation: float
    """Seconds of an evaluation."""
    start: float
    """Seconds from the call of `pretrain` to its first step."""

    @property
    def step_seconds(self) -> dict[Size, float]:
        """Seconds of a step at each size."""
        return {size: step.seconds for size, step in self.steps.items()}

    def seconds(self, curriculum: Curriculum) -> float:
        """Return the time of a curriculum's steps."""
        return sum(self.steps[stage.size].seconds * stage.num_steps for stage in curriculum.stages)

    @property
    def waiting(self) -> dict[Size, float]:
        """The share of a step at each size that is spent waiting for images."""
        return {size: step.waited / step.seconds for size, step in self.steps.items()}

    def scaled(self, factor: float) -> Speed:
        """Return the speed of steps of `factor` times as many images."""
        return replace(
            self,
            images={size: round(factor * number) for size, number in self.images.items()},
            steps={
                size: StepTime(seconds=factor * step.seconds, waited=factor * step.waited)
                for size, step in self.steps.items()
            },
        )

    def words(self) -> str:
        """Return the images per second at each size."""
        steps = self.steps.items()
        rates = (f"{self.images[size] / step.seconds:,.0f}" for size, step in steps)
        sizes = "/".join(map(str, self.steps))
        return f"{'/'.join(rates)} images/s at {sizes} pixels"


def measure(config: PretrainConfig, seconds: float, *, rounds: int = 1) -> Speed:
    """Measure steps and an evaluation of a run in all of its processes.

    Args:
        config: The run; its model is built, and forgotten.
        seconds: About how long the steps of each size may take in a round.
        rounds: How often each size is measured.

    Raises:
        ValueError: The configuration does not fit the data.
    """
    began = time.monotonic()
    accelerator = make_accelerator(config.run, allow_fsdp=True)
    model = build_model(config)
    images, curriculum = build_images(config, model, accelerator)
    trainer = Pretrainer(config, accelerator, model, curriculum)
    start = time.monotonic() - began
    return speed_of(trainer, images, seconds=seconds, rounds=rounds, start=start)


def speed_of(
    trainer: Trainer[Any, Any],
    images: RunImages,
    *,
    seconds: float,
    rounds: int = 1,
    start: float = 0.0,
) -> Speed:
    """Measure the steps and an evaluation of a trainer, in all processes.

    Args:
        trainer: The trainer, whose weights change.
        images: The images of its run.
        seconds: As in `measure`.
        rounds: As in `measure`.
        start: Seconds that it took to build them.
    """
    config, accelerator = trainer.config, trainer.accelerator
    times = measure_steps(trainer, images, rounds=rounds, seconds=seconds)
    began = time.monotonic()
    trainer.evaluate(iter(images.load_held_out(config, accelerator)))
    evaluation = time.monotonic() - began
    stages = trainer.schedule.stages
    counts = {stage.size: stage.times * config.optim.batch_size for stage in stages}
    found = [Speed(images=counts, steps=times, evaluation=evaluation, start=start)]
    broadcast_object_list(found)  # processes differ in what they have measured
    return found[0]


def largest_micro_batch(config: PretrainConfig) -> int:
    """Return the most full-size images that fit on this device at a time, by trying.

    It begins with the process's share of the batch, and halves it until a forward and a backward
    pass and a step of AdamW fit. All processes take the least that any of them found.

    Args:
        config: The run, whose micro-batch does not matter.

    Raises:
        ValueError: Not even one image fits.
    """
    accelerator = make_accelerator(config.run, allow_fsdp=True)
    sizes: list[int] = [config.optim.batch_size // accelerator.num_processes]

    def halve() -> int:
        sizes[0] //= 2
        return sizes[0]

    attempt: Callable[[], int] = find_executable_batch_size(
        partial(_try, config=config, accelerator=accelerator), sizes[0], halve
    )
    try:
        found = torch.tensor([attempt()], device=accelerator.device)
    except RuntimeError as error:
        if "No executable batch size" not in str(error):
            raise
        raise ValueError(
            "model.encoder must fit on this device, got no room for one image of "
            f"model.image_size {config.model.image_size}"
        ) from error
    fewest: int = int(accelerator.gather(found).min().item())
    return fewest


def _try(size: int, config: PretrainConfig, accelerator: Accelerator) -> int:
    """Take a step on `size` black images; out of memory if little is left for anything else."""
    device = accelerator.device
    model = build_model(config).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    images = torch.zeros(size, model.in_chans, *as_pair(model.full_size), device=device)
    with accelerator.autocast():
        loss = model(images, masked_only=True).loss
    loss.backward()
    optimizer.step()
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        if torch.cuda.max_memory_reserved(device) > MOST_MEMORY * total:
            raise RuntimeError("CUDA out of memory.")  # the words that are looked for
    return size


def epochs_for(
    config: PretrainConfig,
    model: MaskedModel,
    num_images: int,
    speed: Speed,
    seconds: float,
    beside: float = 0.0,
) -> float:
    """Return the full-size epochs that fit into some time.

    Args:
        config: The run, whose epochs do not matter.
        model: Its model, on any device.
        num_images: Number of training images.
        speed: How fast it trains.
        seconds: The time for its steps.
        beside: The time that the run takes beside its steps.

    Raises:
        ValueError: Not even one step of each stage fits; the message says how long that takes.
    """
    flops = cache(partial(training_flops, model))

    def time_of(budget: int) -> float:
        planned = config.curriculum.build(
            full_size=model.full_size,
            multiple=model.size_multiple,
            num_steps=budget,
            flops=flops,
        )
        return speed.seconds(config.optim.with_early_batch(planned))

    least = config.curriculum.num_stages
    least *= max((part.times for part in config.optim.early_batch), default=1)
    if time_of(least) > seconds:
        hours = math.ceil(1.1 * (time_of(least) + beside) / 3.6) / 1000
        stages = config.curriculum.num_stages
        raise ValueError(
            f"--hours must be at least {hours:g} ({60 * hours:.2g} minutes) at this speed, for "
            f"looking, measuring and one step of each of the {stages} stages; less is enough for a "
            "smaller --model.image_size, or for the 5 stages of --curriculum.name efficienttrain"
        )
    per_step = time_of(1000 * least) / (1000 * least)
    budget = max(least, int(seconds / per_step))
    return budget * config.optim.batch_size / num_images


INTERVALS = {
    "run.log_every": "ten seconds, or a fortieth of the run",
    "run.eval_every": "a tenth of the run, if that costs little",
    "run.checkpoint_every": "a quarter of an hour, or a third of the run",
}
"""Reasons of the intervals."""


def intervals(curriculum: Curriculum, speed: Speed, seconds: float) -> Mapping[str, int | None]:
    """Return the steps between logs, evaluations and checkpoints, for intervals of time.

    Args:
        curriculum: The stages of the run.
        speed: How fast it trains.
        seconds: How long it takes.
    """
    per_step = speed.seconds(curriculum) / curriculum.num_steps
    number = min(EVALUATIONS, int(EVALUATION_SHARE * seconds / max(speed.evaluation, 1e-3)))
    every = max(1, curriculum.num_steps // number) if number > 1 else None
    checkpoint = min(CHECKPOINT_SECONDS, seconds / 3)
    return {
        "run.log_every": max(1, min(round(10 / per_step), curriculum.num_steps // 40)),
        "run.eval_every": every,
        "run.checkpoint_every": max(1, round(checkpoint / per_step)),
    }
