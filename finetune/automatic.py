"""Automatic settings of fine-tuning: what the checkpoint knows need not be given again.

    mae-et-finetune DATA --checkpoint RUN [--hours 1]

The recipe follows from the number of labels; precision, workers and micro-batch from the machine;
the epochs from the hours. A table on stderr shows all that is chosen, with its reason.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accelerate.utils import broadcast_object_list

from mae_et.auto import Choices, choose_machine, look_at_machine, speed_of
from mae_et.config import Resume
from mae_et.config.parser import find_recipe
from mae_et.config.request import Request
from mae_et.curriculum import as_size
from mae_et.errors import check
from mae_et.runs import Run
from mae_et.training import main_process_first, make_accelerator
from mae_et.weights import OF_SIZES, Facts, facts_of, find_weights

from .build import build_schedule
from .config import FinetuneConfig, FinetuneRunConfig
from .data import LabelledSplits, load_labelled
from .train import set_up

FIXED = ("model.encoder", "model.in_chans", "model.patch_size")
"""Settings in which a checkpoint can't be contradicted."""

HELD_OUT = 0.2
"""The share of each class that is held out where there is no split to evaluate on."""

FEW = 20_000
"""Labels up to which the recipe small_data is used, and from which on MAE's own, vit_b_16."""

FEWEST = 2_000
"""Labels up to which the learning rate is chosen by folds: so few cost little, and how far to move
the encoder depends on the images more than on anything a rule could know."""

FOLDS, RATES = 2, (0.004, 0.016, 0.064)
"""Halves of the labels, each of which chooses among these values of optim.base_lr."""

RATE_RUNS = len(RATES) * (FOLDS - 1)
"""What that costs, in runs with all labels."""

LEAST_BATCH = 8
"""The smallest batch; one of the recipe is a tenth of the labels at most."""

MARGIN = 0.95
"""The share of the time left that is planned: the probe of the encoder takes some of it."""

FORWARD_COST = 1 / 3
"""The cost of an image's features or logits, in training steps: a forward pass alone."""

EVALUATION_SHARE = 0.5
"""The most that evaluations may take, as a share of the time of training."""


class Completed(NamedTuple):
    """A configuration, and the values of optim.base_lr to choose from by `FOLDS`; none if given."""

    config: FinetuneConfig
    rates: Sequence[float]


def complete(request: Request[FinetuneConfig], *, began: float, resume: Resume) -> Completed:
    """Return the configuration of a command line, with the settings chosen that it does not give.

    A run that is resumed keeps the settings that it has.

    Args:
        request: The command line, which names images and no recipe.
        began: When it was given, by `time.monotonic`.
        resume: Whether the run in `run.output_dir` is resumed, if there is one.

    Raises:
        ValueError: The checkpoint, the labels or an option is bad, or the hours are too few.
    """
    run = Run(Path(request.given["run.output_dir"]))
    if resume and run.exists:
        request.begin_with(run.config_file)
        return Completed(request.make({}), ())
    return _choose(request, request.hours, began)


def _choose(request: Request[FinetuneConfig], hours: float | None, began: float) -> Completed:
    given, checkpoint = request.given, request.given.get("checkpoint")
    mode = given.get("mode", "finetune")
    check(hours is None or mode == "finetune", "--hours", hours, f"left out with --mode {mode}")
    allowed = "left out, since optim.epochs is given"
    check(hours is None or "optim.epochs" not in given, "--hours", hours, allowed)
    choices = Choices(given)
    accelerator = make_accelerator(FinetuneRunConfig(tracker="none"))
    path = str(checkpoint)
    origin = main_process_first(accelerator, lambda: find_weights(path, prefer_result=True))
    _choose_network(choices, facts_of(origin), path)
    if "optim.epochs" in given:
        warmup = float(f"{min(5.0, 0.1 * given['optim.epochs']):.3g}")
        choices.choose("optim.warmup_epochs", warmup, "a tenth of the epochs, and five at most")
    choices.choose("data.eval_share", HELD_OUT, "where there is no validation or test split")
    known = request.make(choices.chosen())
    splits = main_process_first(accelerator, lambda: load_labelled(known.data))
    _choose_recipe(request, choices, splits)
    choose_machine(choices, look_at_machine(accelerator))
    has_few = len(splits.train) <= FEWEST and np.bincount(splits.train.labels).min() >= 2 * FOLDS
    is_open = mode == "finetune" and "optim.base_lr" not in given
    rates: Sequence[float] = RATES if has_few and is_open else ()
    if hours is not None:
        rates = _choose_epochs(request, choices, splits, hours, began, rates)
    if accelerator.is_main_process:
        print(choices.table(), file=sys.stderr)
        if rates:
            values = ", ".join(f"{rate:g}" for rate in rates)
            print(
                f"  optim.base_lr: of {values}, by {FOLDS} halves of the labels in "
                f"{RATE_RUNS} times the time of the run; --optim.base_lr gives one",
                file=sys.stderr,
            )
    return Completed(request.make(choices.chosen()), rates)


def _choose_network(choices: Choices, facts: Facts, checkpoint: str) -> None:
    """Choose the network and the normalisation of the checkpoint."""
    reason = f"that of {checkpoint}"
    patch = facts.encoder_args.get("patch_size")
    arguments = {
        name: value
        for name, value in facts.encoder_args.items()
        if value is not None and name not in OF_SIZES
    }
    known: dict[str, Any] = {
        "model.encoder": facts.encoder,
        "model.encoder_args": arguments or None,
        "model.image_size": facts.image_size and as_size(*facts.image_size),
        "model.patch_size": as_size(*patch) if isinstance(patch, list | tuple) else patch,
        "model.in_chans": facts.in_chans,
        "model.global_pool": facts.pool if facts.pool in ("avg", "token") else None,
    }
    for name, value in known.items():
        if value is None:
            continue
        chosen = choices.choose(name, value, reason)
        fits = chosen == value or name not in FIXED
        check(fits, f"--{name}", chosen, f"left out, or {value!r} as in {checkpoint}")
    for name in ("mean", "std"):
        values = facts.images.get(name)
        if values and (facts.in_chans is None or len(values) == facts.in_chans):
            choices.choose(f"data.{name}", [float(value) for value in values], reason)


def _choose_recipe(
    request: Request[FinetuneConfig], choices: Choices, splits: LabelledSplits
) -> None:
    """Choose the recipe by the number of labels, and a batch that is not too large for them."""
    number, classes = len(splits.train), len(splits.class_names)
    name = "small_data" if number <= FEW else "vit_b_16"
    recipe = Path(find_recipe(name, "finetune"))
    request.begin_with(recipe)
    optim = request.make(choices.chosen()).optim
    batch = optim.batch_size
    while batch > LEAST_BATCH and 10 * batch > number:
        batch //= 2
    reason = f"recipe {name}, for {number:,} labels of {classes:,} classes"
    if batch != optim.batch_size:
        reason += ", of which it is a tenth at most"
    batch = choices.choose("optim.batch_size", batch, reason)
    choices.choose(
        "optim.micro_batch_size", min(batch, 64), "at most 64, which fits nearly anywhere"
    )
    held_out = len(splits.held_out)
    epochs = math.ceil(FORWARD_COST * held_out / (EVALUATION_SHARE * number))
    if epochs > 1:
        every = max(1, epochs * number // batch)
        reason = f"every {epochs} epochs, since {held_out:,} images to evaluate on take their time"
        choices.choose("run.eval_every", every, reason)


def _choose_epochs(
    request: Request[FinetuneConfig],
    choices: Choices,
    splits: LabelledSplits,
    hours: float,
    began: float,
    rates: Sequence[float],
) -> Sequence[float]:
    """Choose the epochs that fit into the hours, after measuring steps and an evaluation.

    Returns:
        The rates to choose from; none if the hours do not suffice for that.
    """
    recipe = request.make(choices.chosen())
    config = request.make(choices.chosen() | {"optim.new_head": "random"})
    accelerator = make_accelerator(config.run)
    trainer, images = set_up(config, accelerator)
    speed = speed_of(trainer, images, seconds=1.0)
    schedule = build_schedule(config, trainer.unwrapped, 1000)
    step = speed.seconds(schedule) / schedule.batches_before(schedule.num_steps)
    steps = len(splits.train) / config.optim.batch_size
    evaluations = steps / (config.run.eval_every or steps)
    per_epoch = steps * step + evaluations * speed.evaluation
    probed = len(splits.train) + len(splits.held_out)
    probe = probed / config.optim.batch_size * step * FORWARD_COST
    beside = time.monotonic() - began + 2 * speed.evaluation
    beside += probe if recipe.optim.new_head != "random" else 0.0
    found = [MARGIN * (3600 * hours - beside) / per_epoch]
    broadcast_object_list(found)  # of which one process decides, by its clock
    if found[0] < 1:
        least = 1.1 * (per_epoch / MARGIN + beside) / 3600
        raise ValueError(f"--hours must be at least {least:.2g} at this speed, for one epoch")
    if found[0] < (1 + RATE_RUNS) * recipe.optim.epochs:
        rates = ()
    if rates:
        found[0] /= 1 + RATE_RUNS
    rate = config.optim.batch_size / step
    reason = f"{hours:g} hours at most, at the measured {rate:,.0f} images/s"
    epochs = choices.choose("optim.epochs", float(f"{found[0]:.4g}"), reason)
    share = recipe.optim.warmup_epochs / recipe.optim.epochs
    choices.choose("optim.warmup_epochs", float(f"{share * epochs:.3g}"), "as long as the recipe's")
    return rates
