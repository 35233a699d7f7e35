"""The sections that pretraining and fine-tuning share: the optimizer, the run, and its probes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..errors import check, check_positive

Resume = bool | Literal["auto"]
"""Whether to go on with the run of a folder; auto: if it holds one, else start one."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW, its schedule and its batches.

    Args:
        epochs: passes over the training images; with curriculum.cost (as in efficienttrain_plus),
            full-size passes that the run may cost.
        batch_size: images per optimizer step, over all processes.
        micro_batch_size: most full-size images per forward pass of one process; null for all of
            its share at once. Rounded down to a divisor of the share; small stages join several.
        base_lr: peak learning rate per 256 images: lr = base_lr · batch_size / 256.
        min_lr: learning rate at the end.
        warmup_epochs: linear warm-up from zero.
        weight_decay: of all parameters but biases and norms.
        betas: of AdamW.
        clip_grad: largest gradient norm; null for no clipping.
        max_skipped_steps: steps in a row with a non-finite gradient after which the run stops, at
            the next log step.
    """

    epochs: float = 400
    batch_size: int = 4096
    micro_batch_size: int | None = None
    base_lr: float = 1.5e-4
    min_lr: float = 0.0
    warmup_epochs: float = 40
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    clip_grad: float | None = None
    max_skipped_steps: int = 20

    def __post_init__(self) -> None:
        check_positive(self, "optim", "epochs", "batch_size", "base_lr", "max_skipped_steps")
        for name in ("micro_batch_size", "clip_grad"):
            value = getattr(self, name)
            check(value is None or value > 0, f"optim.{name}", value, "above 0 or null")
        check(0 <= self.min_lr <= self.peak_lr, "optim.min_lr", self.min_lr, "in [0, peak]")
        check(all(0 <= b < 1 for b in self.betas), "optim.betas", self.betas, "in [0, 1)")
        check(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, "at least 0")
        check(
            0 <= self.warmup_epochs < self.epochs,
            "optim.warmup_epochs",
            self.warmup_epochs,
            f"in [0, optim.epochs = {self.epochs})",
        )

    @property
    def peak_lr(self) -> float:
        """The learning rate after warm-up."""
        return self.base_lr * self.batch_size / 256


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Probes of the frozen encoder.

    Args:
        k: neighbours of the k-nearest-neighbour probe.
        temperature: their votes weigh exp(cosine similarity / temperature).
        linear_rates: of the linear probe, per 256 images; the best on a tenth of the training
            images is taken.
        linear_epochs: of the linear probe.
        linear_warmup_epochs: of its learning rate, linear from zero.
        linear_batch_size: images per step of the linear probe.
    """

    k: int = 20
    temperature: float = 0.07
    linear_rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    linear_epochs: int = 90
    linear_warmup_epochs: int = 10
    linear_batch_size: int = 1024

    def __post_init__(self) -> None:
        check_positive(self, "probe", "k", "temperature", "linear_epochs")
        rates, batch_size = self.linear_rates, self.linear_batch_size
        check(
            bool(rates) and all(0 < rate < math.inf for rate in rates),
            "probe.linear_rates",
            rates,
            "numbers above 0",
        )
        check(batch_size > 0, "probe.linear_batch_size", batch_size, "above 0")
        check(
            0 <= self.linear_warmup_epochs < self.linear_epochs,
            "probe.linear_warmup_epochs",
            self.linear_warmup_epochs,
            f"in [0, probe.linear_epochs = {self.linear_epochs})",
        )


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Probes of the encoder while it is pretrained, on labelled images: does it learn?

    Args:
        knn_every: steps between k-nearest-neighbour probes; null for none.
        linear_every: steps between linear probes; null for none.
        path: labelled images, as in data.path; null for data.path itself, which is then no stream.
        split: the split of `path` to learn from.
        image_column: of `path`; null to find it.
        label_column: null to find it.
        images: most images to learn from, and most to classify.
        held_out: whether a tenth of the split is classified, also where there is a split to
            evaluate on, which then stays unseen.
    """

    knn_every: int | None = None
    linear_every: int | None = None
    path: str | None = None
    split: str = "train"
    image_column: str | None = None
    label_column: str | None = None
    images: int = 10_000
    held_out: bool = False

    def __post_init__(self) -> None:
        check_positive(self, "eval", "images")
        for name in ("knn_every", "linear_every"):
            value = getattr(self, name)
            check(value is None or value > 0, f"eval.{name}", value, "above 0 or null")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where and how the run takes place.

    Args:
        output_dir: folder of this run.
        seed: of the weights and of the sample stream.
        mixed_precision: of the forward and backward passes; null for accelerate's setting.
        compile: whether the model is compiled, once per input size.
        log_every: steps between lines of metrics.jsonl.
        eval_every: steps between evaluations; null for the end only.
        checkpoint_every: steps between checkpoints; null for the end only.
        keep_checkpoints: how many are kept.
        tracker: name of an accelerate tracker (tensorboard, wandb, …), auto (TensorBoard if it is
            installed), or none.
        progress: whether a terminal shows a bar; else, and in a file, a line every log_every steps.
    """

    output_dir: str = "runs/pretrain"
    seed: int = 0
    mixed_precision: Literal["no", "fp16", "bf16"] | None = None
    compile: bool = False
    log_every: int = 50
    eval_every: int | None = None
    checkpoint_every: int | None = 1000
    keep_checkpoints: int = 2
    tracker: str = "auto"
    progress: bool = True

    def __post_init__(self) -> None:
        check(0 <= self.seed < 2**32, "run.seed", self.seed, "in [0, 2**32)")
        check(bool(self.output_dir.strip()), "run.output_dir", self.output_dir, "a folder")
        check_positive(self, "run", "log_every", "keep_checkpoints")
        for name in ("eval_every", "checkpoint_every"):
            value = getattr(self, name)
            check(value is None or value > 0, f"run.{name}", value, "above 0 or null")
