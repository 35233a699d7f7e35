"""The training loop of pretraining and fine-tuning: steps, logs, evaluations, checkpoints."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from .. import data
from ..config import OptimConfig, RunConfig
from ..curriculum import Curriculum, learning_rate
from ..errors import RunInterruptedError, RunStoppedError
from .bad_images import BadImages
from .checkpoint import load_checkpoint, save_checkpoint, save_unwrapped
from .compile import compile_in_place, num_graphs
from .fsdp import prepare
from .interrupt import Interrupt
from .launch import start_trackers
from .metrics import Meter, SourceConfig, StageWait
from .optim import set_learning_rate, step_if_finite
from .progress import Progress
from .run_folder import RunFolder

log = logging.getLogger(__name__)


MAX_WAIT = 0.3
"""Share of a stage's time spent waiting for images above which the run advises a remedy."""


Chunks = Iterator[dict[str, Any]]
"""Batches of samples as the loader hands them over."""


class TrainingConfig(Protocol):
    """What the loop needs to know of a run."""

    @property
    def data(self) -> SourceConfig: ...
    @property
    def optim(self) -> OptimConfig: ...
    @property
    def run(self) -> RunConfig: ...


class Trainer(ABC):
    """A model with its optimizer, and what is done with them in a step and in an evaluation.

    Args:
        config: the run.
        accelerator: of this process.
        model: is prepared for the accelerator's device and processes.
        optimizer: of the model's parameters.
        schedule: the input size of each step, and the learning rate's progress.
        blocks: of the model; see `sharding.prepare`.
    """

    def __init__(
        self,
        config: TrainingConfig,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Curriculum,
        blocks: Sequence[nn.Module] = (),
    ) -> None:
        self.run_config, self.optim_config = config.run, config.optim
        self.accelerator = accelerator
        self.schedule = schedule
        self.downsample = config.data.downsample
        self.waiting, self.is_advised = StageWait(), False
        if config.run.compile:
            compile_in_place(model)
        save_unwrapped(accelerator)
        self.model: nn.Module
        self.optimizer: AcceleratedOptimizer
        self.model, self.optimizer = prepare(accelerator, model, optimizer, blocks)

    def train_step(self, step: int, chunks: Chunks, num_chunks: int) -> tuple[Tensor, Tensor]:
        """One optimizer step on the next `num_chunks` chunks.

        Returns:
            (), (): this process's loss, and the norm of the gradients over all processes.
        """
        self.model.train()
        set_learning_rate(self.optimizer, self.learning_rate(step))
        loss = self.backward(step, chunks, num_chunks)
        norm = step_if_finite(
            self.accelerator, self.model, self.optimizer, self.optim_config.clip_grad
        )
        return loss, norm

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step."""
        optim = self.optim_config
        return learning_rate(
            self.schedule.lr_progress(step),
            peak=optim.peak_lr,
            minimum=optim.min_lr,
            warmup=optim.warmup_epochs / optim.epochs,
        )

    @abstractmethod
    def backward(self, step: int, chunks: Chunks, num_chunks: int) -> Tensor:
        """Leave the gradients of the next `num_chunks` chunks in the model; (): their loss."""

    @abstractmethod
    def evaluate(self, chunks: Chunks) -> dict[str, float]:
        """What the held-out images say, over all processes."""

    def on_window(self, metrics: Mapping[str, Any]) -> None:
        """Advise, once, to shrink images in the loader if a small stage waits for it."""
        share = self.waiting.add(metrics)
        is_small = metrics["size"] != self.schedule.full_size
        if share <= MAX_WAIT or not is_small or self.downsample != "device" or self.is_advised:
            return
        self.is_advised = True
        if self.accelerator.is_main_process:
            log.warning(
                "%.0f %% of the time at size %s went into waiting for images. With data.downsample "
                "loader, workers decode and hand over no more than a small stage needs (a new run; "
                "not the exact low-frequency crop). More data.num_workers may help as well",
                100 * share,
                metrics["size"],
            )

    def is_evaluation_due(self, done: int) -> bool:
        """Whether to evaluate after `done` steps."""
        return is_due(done, self.run_config.eval_every)

    def is_probe_due(self, done: int) -> bool:
        """Whether there are further scores to measure after `done` steps."""
        return False

    def probe(self, done: int) -> dict[str, float]:
        """The further scores that are due after `done` steps; none if none are."""
        return {}

    def on_evaluation(self, run: RunFolder, scores: dict[str, float]) -> None:  # noqa: B027
        """An evaluation has been written down; there may be nothing to do about it."""

    def is_over(self, run: RunFolder) -> bool:
        """Whether training ends before its time, by what has been written down."""
        return False

    @abstractmethod
    def finish(self, run: RunFolder, chunks: Chunks) -> None:
        """Training is over: hand on what was learned. The chunks are those of an evaluation."""


def train(
    trainer: Trainer,
    config: TrainingConfig,
    train_images: data.Samples | data.StreamedSamples,
    eval_images: data.Samples,
    chunk_size: int,
    run: RunFolder,
    stop: int | None = None,
) -> None:
    """Train from the run's checkpoint, or from the start, to the end of the schedule.

    Args:
        trainer: does the steps.
        config: the run.
        train_images: of any length.
        eval_images: of any length.
        chunk_size: images that a process handles at a time at full size; see `data.split_batch`.
        run: open.
        stop: the step before which to end, without handing on what was learned; None for the end
            of the schedule, and for handing on.

    Raises:
        ValueError: the checkpoint does not fit.
        RunStoppedError: too many non-finite steps or unreadable images.
        RunInterruptedError: a signal asked to stop; a checkpoint has been saved.
    """
    accelerator, schedule = trainer.accelerator, trainer.schedule
    run.trackers = start_trackers(accelerator, config, run.path)
    start = load_checkpoint(accelerator, run.checkpoint) if run.checkpoint else 0
    batch_size, num_steps = config.optim.batch_size, stop or schedule.num_steps
    rank, world = accelerator.process_index, accelerator.num_processes
    workers, on_cuda = config.data.num_workers, accelerator.device.type == "cuda"
    num_chunks = batch_size // world // chunk_size
    loader = data.load_steps(
        train_images,
        start,
        num_steps,
        chunk_size=chunk_size,
        rank=rank,
        world=world,
        num_workers=workers,
        pin_memory=on_cuda,
    )
    shard = data.process_batches(len(eval_images), chunk_size, rank, world)
    eval_loader = data.make_loader(eval_images, shard, workers, on_cuda)

    meter = Meter(accelerator, config.optim.max_skipped_steps)
    bad_images = BadImages(len(train_images) + len(eval_images), config.data, run)
    chunks = bad_images.noted(meter.timed(iter(loader)))
    progress = Progress(accelerator, start, num_steps, has_bar=config.run.progress)
    progress.on_start(run.path, schedule, batch_size, len(train_images), len(eval_images))

    is_over = trainer.is_over(run)
    steps = range(start, start if is_over else num_steps)
    with progress, Interrupt(accelerator) as interrupt:
        for step in steps:
            loss, gradient_norm = trainer.train_step(step, chunks, num_chunks)
            meter.add(loss, gradient_norm, batch_size)
            progress.on_step()

            done = step + 1
            if config.data.bad_images == "raise":
                bad_images.check()
            stage = schedule.stage_at(step)
            if done % config.run.log_every == 0 or done in (stage.stop, num_steps):
                epoch = done * batch_size / len(train_images)
                metrics = {"epoch": epoch, "size": stage.size, "lr": trainer.learning_rate(step)}
                metrics |= meter.read() | {"bad_images": bad_images.check()}
                if config.run.compile:
                    metrics["graphs"] = num_graphs()
                run.write_metrics(metrics, done)
                trainer.on_window(metrics)
                progress.on_window(metrics, done)
            is_last = done == num_steps
            is_evaluation = is_last or trainer.is_evaluation_due(done)
            is_interrupted = interrupt.is_agreed() and not is_last
            is_save = is_last or is_interrupted or is_due(done, config.run.checkpoint_every)
            if is_evaluation or is_save or trainer.is_probe_due(done):
                with meter.excluded():
                    scores = trainer.probe(done)
                    if is_evaluation:
                        scores |= trainer.evaluate(bad_images.noted(iter(eval_loader)))
                    bad_images.check()
                    if scores:
                        run.write_metrics(scores, done)
                        progress.on_scores(scores, done)
                    if is_evaluation:
                        check_finite(scores)
                        trainer.on_evaluation(run, scores)
                        is_over = trainer.is_over(run)
                    if is_save or is_over:
                        is_saved = save_checkpoint(
                            accelerator, run.path, done, config.run.keep_checkpoints
                        )
            if is_interrupted and not is_over:
                raise interrupted(done, is_saved)
            if is_over:
                break

    if stop is None:
        trainer.finish(run, bad_images.noted(iter(eval_loader)))


def interrupted(done: int, is_saved: bool) -> RunInterruptedError:
    """What is said of a run that was asked to stop after `done` steps."""
    saved = "checkpoint saved" if is_saved else "its checkpoint could not be saved"
    return RunInterruptedError(f"interrupted after step {done}, {saved}; --resume auto goes on")


def check_finite(scores: dict[str, float]) -> None:
    """Hand on no weights that have diverged.

    Raises:
        RunStoppedError: the loss of the held-out images is not finite.
    """
    if not math.isfinite(scores["eval_loss"]):
        raise RunStoppedError(
            f"the loss of the held-out images is {scores['eval_loss']}: training has diverged. "
            "Try a lower optim.base_lr, a longer optim.warmup_epochs or optim.clip_grad 1.0"
        )


def is_due(done: int, every: int | None) -> bool:
    """Whether something that happens every so many steps happens after `done` steps."""
    return every is not None and done % every == 0
