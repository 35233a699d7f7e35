"""Supervised training: a run from its configuration to its classifier.

It fine-tunes a pretrained encoder, or trains from scratch, under a curriculum or at full size. A
step of it is in `finetuner`, the loop around the steps in `mae_et.training.loop`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed

from mae_et.config import Resume
from mae_et.runs import Run
from mae_et.training import (
    Loop,
    RunFolder,
    RunImages,
    main_process_first,
    make_accelerator,
    train_to_end,
)
from mae_et.weights import Named, find_weights, warn_of_other_normalisation

from .build import batch_chunk_size, build_images, build_schedule, full_size_steps
from .config import FinetuneConfig
from .data import load_labelled
from .finetuner import Finetuner
from .head import start_from_probe
from .model import build_classifier


def finetune(config: FinetuneConfig, *, resume: Resume = False, began: float | None = None) -> None:
    """Run a configuration to its end; its folder then holds the classifiers `best` and `last`.

    Args:
        config: The run.
        resume: Whether to resume the run in `run.output_dir` from its last checkpoint; "auto" to do
            so if it holds one.
        began: When the hours of `run.hours` began, by `time.monotonic`; None for now.

    Raises:
        ValueError: Something is wrong with the configuration or the data, before training.
        RunStoppedError: The run cannot continue: too many steps are not finite, or too many images
            are unreadable.
        RunInterruptedError: A signal asked the run to stop; the message says whether a checkpoint
            was saved.
    """
    train_to_end(_train, config, resume, began)


def _train(config: FinetuneConfig, resume: Resume, began: float | None) -> None:
    """Train a run until it ends, is stopped, or is replanned; see `finetune`."""
    accelerator = make_accelerator(config.run)
    trainer, images = set_up(config, accelerator, resume=resume)
    with RunFolder(config, images, resume, accelerator) as run:
        Loop(trainer, images, run, began=began).train()


def set_up(
    config: FinetuneConfig, accelerator: Accelerator, *, resume: Resume = False
) -> tuple[Finetuner, RunImages]:
    """Build what trains a configuration, and its images.

    Args:
        config: The run.
        accelerator: The accelerator of this process.
        resume: As in `finetune`; a run that goes on has weights of its own.

    Raises:
        ValueError: Something is wrong with the configuration or the data.
    """
    chunk_size = batch_chunk_size(config, accelerator.num_processes)
    assert config.checkpoint is not None
    has_checkpoint = Run(Path(config.run.output_dir)).latest_checkpoint() is not None
    weights = "none" if resume and has_checkpoint else config.checkpoint  # a run has its own by now
    if Named.of(weights):  # fetched before the data are read
        main_process_first(accelerator, lambda: find_weights(weights))
    splits = main_process_first(accelerator, lambda: load_labelled(config.data))
    num_steps = full_size_steps(config, len(splits.train))
    set_seed(config.run.seed)  # the same weights in every process
    if weights != "none" and accelerator.is_main_process:
        warn_of_other_normalisation(weights, config.data)
    keep_head = config.keep_head and weights != "none"
    start_head = None
    if config.optim.new_head != "random":
        start_head = partial(start_from_probe, config, accelerator, splits, resume)
    model = build_classifier(
        config.model, splits.class_names, weights, keep_head=keep_head, start_head=start_head
    )
    schedule = build_schedule(config, model, num_steps)
    images = build_images(config, splits, schedule, chunk_size, accelerator)
    trainer = Finetuner(config, accelerator, model, schedule, splits, images.held_out)
    return trainer, images
