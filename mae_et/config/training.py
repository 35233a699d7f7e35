"""The sections that pretraining and fine-tuning share, and the configuration made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from ..curriculum import Curriculum, Size, as_pair
from ..early_batch import Scaling, enlarge_batches
from ..errors import check, check_positive
from ..replanning import replan_all
from .curriculum import CurriculumConfig
from .data import ImagesConfig, Layout

Resume = bool | Literal["auto"]
"""Whether to resume the run in a folder; "auto" resumes it if there is one, or else starts one."""


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The network that is pretrained or fine-tuned, and its images.

    Args:
        encoder: Name of a timm model.
        encoder_args: Further arguments of the timm model (embed_dim, depth, num_heads, …).
        image_size: Full size in pixels, one number or [height, width]; positions are resampled to
            it.
        patch_size: Patch size in pixels; null for the encoder's own.
        in_chans: Image channels; 1 (grey), 3 (RGB) or 4 (RGBA) for pictures, any number for arrays
            and TIFF files.
    """

    encoder: str = "vit_base_patch16_224"
    encoder_args: dict[str, Any] = field(default_factory=dict)
    image_size: Size = 224
    patch_size: Size | None = None
    in_chans: int = 3

    def __post_init__(self) -> None:
        check_positive(self, "model", "in_chans")


@dataclass(frozen=True, kw_only=True)
class EarlyBatchConfig:
    """A size below the full one whose steps take several batches; see `OptimConfig.early_batch`.

    Args:
        size: Input size of the stages, in pixels.
        times: How many times optim.batch_size such a step takes, at least 2.
    """

    size: Size
    times: int

    def __post_init__(self) -> None:
        check(self.times > 1, "optim.early_batch.times", self.times, "above 1")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW, its schedule and its batches.

    Args:
        epochs: Passes over the training images; with curriculum.cost (as in efficienttrain_plus),
            the full-size passes that the run may cost.
        batch_size: Images per optimizer step, over all processes.
        micro_batch_size: The most full-size images per forward pass of one process; null for all of
            its share at once. It is rounded down to a divisor of the share; small stages join
            several.
        base_lr: Peak learning rate per 256 images: lr = base_lr · batch_size / 256.
        min_lr: Learning rate at the end, from 0 to the peak.
        warmup_epochs: Length of the linear warm-up from zero, at least 0 and below epochs.
        weight_decay: Weight decay, at least 0, of all parameters but biases and norms.
        betas: Betas of AdamW, in [0, 1).
        clip_grad: Largest norm of the gradients; null for no clipping.
        early_batch: Early large batch (EfficientTrain++), for many GPUs: a list of {size, times},
            of sizes below the full one at which a step takes the images of so many ordinary steps.
        early_lr: How the learning rate grows with such a batch: by the square root of times, linear
            in it, or not at all (none).
        max_skipped_steps: Consecutive steps with a non-finite gradient after which the run stops,
            at the next log step.
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
    early_batch: list[EarlyBatchConfig] = field(default_factory=list)
    early_lr: Scaling = "sqrt"
    max_skipped_steps: int = 20

    def __post_init__(self) -> None:
        check_positive(self, "optim", "epochs", "batch_size", "base_lr", "max_skipped_steps")
        for name in ("micro_batch_size", "clip_grad"):
            value = getattr(self, name)
            check(value is None or value > 0, f"optim.{name}", value, "above 0 or null")
        check(0 <= self.min_lr <= self.peak_lr, "optim.min_lr", self.min_lr, "in [0, peak]")
        check(all(0 <= b < 1 for b in self.betas), "optim.betas", self.betas, "in [0, 1)")
        check(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, "at least 0")
        sizes = [part.size for part in self.early_batch]
        ok = len(set(map(as_pair, sizes))) == len(sizes)
        check(ok, "optim.early_batch.size", sizes, "given once each")
        warmup, allowed = self.warmup_epochs, f"in [0, optim.epochs = {self.epochs})"
        check(0 <= warmup < self.epochs, "optim.warmup_epochs", warmup, allowed)

    def with_early_batch(self, planned: Curriculum) -> Curriculum:
        """Return a curriculum whose small stages take the batches of `early_batch`.

        Raises:
            ValueError: They do not fit its stages.
        """
        return enlarge_batches(planned, {part.size: part.times for part in self.early_batch})

    @property
    def peak_lr(self) -> float:
        """The learning rate after warm-up."""
        return self.base_lr * self.batch_size / 256


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Probes of the frozen encoder.

    Args:
        k: Neighbours of the k-nearest-neighbour probe.
        temperature: A vote has weight exp(cosine similarity / temperature).
        linear_rates: Learning rates of the linear probe, per 256 images; the one that does best on
            a tenth of the training images is used.
        linear_epochs: Epochs of the linear probe.
        linear_warmup_epochs: Length of the linear warm-up of its learning rate from zero.
        linear_batch_size: Images per step of the linear probe.
    """

    k: int = 20
    temperature: float = 0.07
    linear_rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    linear_epochs: int = 90
    linear_warmup_epochs: int = 10
    linear_batch_size: int = 1024

    def __post_init__(self) -> None:
        names = ("k", "temperature", "linear_epochs", "linear_batch_size")
        check_positive(self, "probe", *names)
        rates, warmup = self.linear_rates, self.linear_warmup_epochs
        ok = bool(rates) and all(0 < rate < math.inf for rate in rates)
        check(ok, "probe.linear_rates", rates, "numbers above 0")
        allowed = f"in [0, probe.linear_epochs = {self.linear_epochs})"
        check(0 <= warmup < self.linear_epochs, "probe.linear_warmup_epochs", warmup, allowed)


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Probes of the encoder on labelled images during pretraining, to see whether it learns.

    Args:
        knn_every: Steps between k-nearest-neighbour probes; null for none.
        linear_every: Steps between linear probes; null for none.
        path: Labelled images, as in data.path; null for data.path itself, which must then not be a
            stream.
        layout: The layout of `path`, as data.layout.
        split: The split of `path` to learn from.
        image_column: The column of images of `path`; null to find it.
        label_column: The column of labels; null to find it.
        images: The most images to learn from, and the most to classify.
        held_out: Whether a tenth of the split is classified even where there is a split to evaluate
            on, which then stays unseen.
    """

    knn_every: int | None = None
    linear_every: int | None = None
    path: str | None = None
    layout: Layout = "auto"
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
        output_dir: Folder of this run.
        seed: Seed of the weights and of the samples, in [0, 2**32).
        mixed_precision: Precision of the forward and backward passes; null for accelerate's
            setting.
        compile: Whether the model is compiled, once per input size.
        log_every: Steps between lines of metrics.jsonl.
        eval_every: Steps between evaluations; null for the end only.
        checkpoint_every: Steps between checkpoints; null for the end only.
        keep_checkpoints: Number of checkpoints that are kept.
        tracker: Name of an accelerate tracker (tensorboard, wandb, …), auto (TensorBoard if it is
            installed), or none.
        progress: Whether a terminal shows a bar; otherwise, and in a file, there is a line every
            log_every steps.
        hours: How long the run may take, which automatic settings plan for; null for any time.
        on_late: What happens if it turns out slower than planned: go, which says so and trains to
            the end; shorten, which passes the rest of the schedule in fewer steps; fit, which does
            so too, and takes more steps if the run turns out faster; or stop, which saves a
            checkpoint when the hours are over.
        replanned: What shorten and fit did, written by the run: [step, steps of the run from then
            on] of each time. With these, and with on_late go, the run can be repeated.
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
    hours: float | None = None
    on_late: Literal["go", "shorten", "fit", "stop"] = "go"
    replanned: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        hours = self.hours
        check(hours is None or 0 < hours < math.inf, "run.hours", hours, "above 0 or null")
        check(0 <= self.seed < 2**32, "run.seed", self.seed, "in [0, 2**32)")
        check(bool(self.output_dir.strip()), "run.output_dir", self.output_dir, "a folder")
        check_positive(self, "run", "log_every", "keep_checkpoints")
        ascending = all(0 <= step < steps for step, steps in self.replanned)
        allowed = "pairs [step, steps of the run from then on]"
        check(ascending, "run.replanned", self.replanned, allowed)
        for name in ("eval_every", "checkpoint_every"):
            value = getattr(self, name)
            check(value is None or value > 0, f"run.{name}", value, "above 0 or null")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A run of the training loop: what the configurations of both packages are made of."""

    checkpoint: str | None = None
    model: EncoderConfig
    curriculum: CurriculumConfig
    data: ImagesConfig
    optim: OptimConfig
    probe: ProbeConfig
    run: RunConfig

    def __post_init__(self) -> None:
        in_chans = self.model.in_chans
        for name in ("mean", "std"):
            values = getattr(self.data, name)
            allowed = f"{in_chans} numbers, one per channel"
            check(len(values) == in_chans, f"data.{name}", values, allowed)

    def schedule_of(self, planned: Curriculum) -> Curriculum:
        """Return a curriculum as the run passes it: with early large batches, and as replanned.

        Args:
            planned: The curriculum that the section `curriculum` describes.

        Raises:
            ValueError: `optim.early_batch` or `run.replanned` does not fit its stages.
        """
        return replan_all(self.optim.with_early_batch(planned), self.run.replanned)
