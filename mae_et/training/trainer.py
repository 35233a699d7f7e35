"""A model with its optimizer, and what happens to them in a step and in an evaluation.

Pretraining and fine-tuning each have a subclass, with the loss of a micro-batch and the scores of
the held-out images. The loop around the steps is in `loop`.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any, Generic, TypeVar

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from .. import data
from ..config import TrainingConfig
from ..curriculum import Curriculum, Size, learning_rate
from ..early_batch import rate_factor
from ..model import MaskedModel, SizedModel
from .checkpoint import save_unwrapped
from .compile import compile_in_place
from .fsdp import prepare
from .images import Chunks
from .metrics import StageWait
from .optim import (
    accumulate_gradients,
    adamw,
    chunks_per_micro_batch,
    set_learning_rate,
    step_if_finite,
)
from .run_folder import RunFolder

log = logging.getLogger(__name__)

MAX_WAIT = 0.3
"""Share of a stage's time spent waiting for images above which the run advises a remedy."""

MORE_IMAGES = (
    "With data.downsample loader, workers decode and send no more than a small stage needs (in a "
    "new run, and not by the exact low-frequency crop). More data.num_workers may help, and so "
    "may `mae-et pack` where photos are big"
)
"""The remedies in order."""

FIRST_WORKERS = (
    "data.num_workers is 0, so the training process loads them itself: give it workers, which "
    "--resume may change"
)
"""The remedy if there are no workers."""

Config = TypeVar("Config", bound=TrainingConfig)


Model = TypeVar("Model", MaskedModel, SizedModel)


class Trainer(ABC, Generic[Config, Model]):
    """A model with its optimizer, and what happens to them in a step and in an evaluation.

    Args:
        config: The run.
        accelerator: The accelerator of this process.
        model: The model, which this prepares for the accelerator's device and processes.
        groups: The optimizer's parameter groups.
        schedule: The input size of each step, and the progress of the learning rate.
        blocks: Modules whose weights FSDP gathers one after another; see `fsdp.prepare`.
    """

    def __init__(
        self,
        config: Config,
        accelerator: Accelerator,
        model: Model,
        groups: Iterable[dict[str, Any]],
        schedule: Curriculum,
        blocks: Sequence[nn.Module] = (),
    ) -> None:
        self.config, self.accelerator, self.schedule = config, accelerator, schedule
        self.unwrapped: Model = model
        self.waiting, self.is_advised = StageWait(), False
        optimizer = self.make_optimizer(groups)
        if config.run.compile:
            compile_in_place(model)
        save_unwrapped(accelerator)
        self.model: nn.Module
        self.optimizer: AcceleratedOptimizer
        self.model, self.optimizer = prepare(accelerator, model, optimizer, blocks)
        self.mean, self.std = (
            data.channel_statistics(values, accelerator.device)
            for values in (config.data.mean, config.data.std)
        )

    def make_optimizer(self, groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
        """Make the optimizer of parameter groups."""
        return adamw(groups, self.config.optim.betas)

    # --- a step

    def train_step(self, step: int, chunks: Chunks, num_chunks: int) -> tuple[Tensor, Tensor]:
        """Take one optimizer step.

        Args:
            step: The step.
            chunks: The chunks of this process, of which the step takes the next ones.
            num_chunks: How many of them make a batch.

        Returns:
            (), (): This process's loss, and the norm of the gradients over all processes.
        """
        self.model.train()
        set_learning_rate(self.optimizer, self.learning_rate(step))
        loss = self.forward_backward(step, chunks, num_chunks)
        norm = step_if_finite(
            self.accelerator, self.model, self.optimizer, self.config.optim.clip_grad
        )
        return loss, norm

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        optim, times = self.config.optim, self.schedule.stage_at(step).times
        return learning_rate(
            self.schedule.lr_progress(step),
            peak=optim.peak_lr * rate_factor(times, optim.early_lr),
            minimum=optim.min_lr,
            warmup=optim.warmup_epochs / optim.epochs,
        )

    def forward_backward(self, step: int, chunks: Chunks, num_chunks: int) -> Tensor:
        """Leave the gradients of a step in the model, and return its loss ().

        The step is taken at its stage's input size, in as few micro-batches as fit.
        """
        stage = self.schedule.stage_at(step)
        size, num_chunks = stage.size, num_chunks * stage.times
        self.unwrapped.set_input_size(size)
        joined = chunks_per_micro_batch(size, self.schedule.full_size, num_chunks)
        numbers = count()

        def next_loss() -> Tensor:
            taken = [next(chunks) for _ in range(joined)]
            micro_batch = data.join(taken, self.accelerator.device)
            return self.micro_batch_loss(micro_batch, size, (step, next(numbers)))

        return accumulate_gradients(self.accelerator, self.model, num_chunks // joined, next_loss)

    @abstractmethod
    def micro_batch_loss(
        self, micro_batch: Mapping[str, Tensor], size: Size, key: tuple[int, int]
    ) -> Tensor:
        """Return the mean loss () of a micro-batch.

        Args:
            micro_batch: The fields of its samples, on the device; images as loaded.
            size: The input size of the step, in pixels.
            key: The step and the number of the micro-batch in it, which identify it.
        """

    # --- what the loop asks after a step

    def on_window(self, metrics: Mapping[str, Any]) -> None:
        """Advise, once, shrinking images in the loader if a small stage waits for it."""
        share = self.waiting.add(metrics)
        is_small = metrics["size"] != self.schedule.full_size
        on_device = self.config.data.downsample == "device"
        if share <= MAX_WAIT or not is_small or not on_device or self.is_advised:
            return
        self.is_advised = True
        if self.accelerator.is_main_process:
            has_workers = self.config.data.num_workers > 0
            log.warning(
                "%.0f %% of the time at size %s went into waiting for images. %s",
                100 * share,
                metrics["size"],
                MORE_IMAGES if has_workers else FIRST_WORKERS,
            )

    def is_evaluation_due(self, done: int) -> bool:
        """Return whether to evaluate after `done` steps."""
        return is_due(done, self.config.run.eval_every)

    @property
    def evaluates_start(self) -> bool:
        """Whether a new run is evaluated before its first step too."""
        return False

    def is_probe_due(self, done: int) -> bool:
        """Return whether there are further scores to measure after `done` steps."""
        return False

    def may_start_anew(self, step: int) -> bool:
        """Return whether a run that is replanned may go on from its checkpoint with `step`."""
        return True

    @abstractmethod
    def evaluate(self, chunks: Chunks) -> dict[str, float]:
        """Return the scores of the held-out images over all processes, including "eval_loss"."""

    def probe(self, done: int) -> dict[str, float]:
        """Return the further scores that are due after `done` steps; none if none are."""
        return {}

    def on_evaluation(self, run: RunFolder, scores: dict[str, float]) -> None:
        """Do whatever follows an evaluation whose scores have been written."""

    def is_over(self, run: RunFolder) -> bool:
        """Return whether training ends early, judging by the scores written so far."""
        return False

    @abstractmethod
    def finish(self, run: RunFolder, chunks: Chunks) -> None:
        """Write what was learned, after training.

        Args:
            run: The folder of the run.
            chunks: The held-out images, as for an evaluation.
        """


def is_due(done: int, every: int | None) -> bool:
    """Return whether something that happens every `every` steps is due after `done` steps."""
    return every is not None and done % every == 0
