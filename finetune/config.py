"""The configuration of a fine-tuning run: typed, frozen sections, checked when they are built."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Literal

from mae_et.config import (
    CurriculumConfig,
    EncoderConfig,
    ImagesConfig,
    OptimConfig,
    RunConfig,
    TrainingConfig,
)
from mae_et.curriculum import EFFICIENTTRAIN_MAGNITUDES, EFFICIENTTRAIN_PLUS_MAGNITUDES
from mae_et.errors import check

SWEPT = ("layer_decay", "base_lr", "epochs")
"""The settings of the section `optim` that `--sweep.NAME` takes several values of."""


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(EncoderConfig):
    """The classifier.

    Args:
        encoder: Name of any timm backbone, or module:callable for your own constructor. The encoder
            of a checkpoint must be the same.
        global_pool: What a VisionTransformer or a PVT classifies: the average of the patches or the
            class token; null for the model's own way.
        drop_path: Stochastic depth of the last block, in [0, 1); earlier ones have less.
    """

    global_pool: Literal["avg", "token"] | None = "avg"
    drop_path: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.drop_path < 1, "model.drop_path", self.drop_path, "in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class SupervisedCurriculumConfig(CurriculumConfig):
    """The input sizes of the run, and how strong its augmentation is at each.

    Args:
        name: How the input size grows: constant (full size throughout), efficienttrain (the paper's
            five stages, scaled to the full size, with RandAug from weak to strong),
            efficienttrain_plus (sub-stages of equal cost, likewise), or stages (those of
            curriculum.stages).
        cost: area, for what a step costs at a size. The run then costs what optim.epochs cost at
            full size, so it has more passes; stages share that cost, and the learning rate follows
            it. null for area with efficienttrain_plus, and otherwise for stages that share steps.
        magnitudes: RandAug magnitude of each stage, in place of the one in augment.randaug; null
            for 1, 3, 5, 7, 9 with efficienttrain, for 0 to 9 in equal steps with
            efficienttrain_plus, and otherwise for the one in augment.randaug.
    """

    name: Literal["constant", "efficienttrain", "efficienttrain_plus", "stages"] = "constant"
    cost: Literal["area"] | None = None
    magnitudes: list[float] | None = None

    @property
    def stage_magnitudes(self) -> list[float] | None:
        """RandAug magnitude of each stage; None for the one in augment.randaug."""
        if self.magnitudes is None and self.name == "efficienttrain":
            return list(EFFICIENTTRAIN_MAGNITUDES)
        if self.magnitudes is None and self.name == "efficienttrain_plus":
            first, last = EFFICIENTTRAIN_PLUS_MAGNITUDES
            steps = max(self.num_stages - 1, 1)
            return [first + (last - first) * stage / steps for stage in range(self.num_stages)]
        return self.magnitudes

    def __post_init__(self) -> None:
        super().__post_init__()
        given, number = self.magnitudes, self.num_stages
        if given is not None:
            allowed = f"{number} numbers, one per stage"
            check(len(given) == number, "curriculum.magnitudes", given, allowed)
            ok = all(0 <= magnitude <= 10 for magnitude in given)
            check(ok, "curriculum.magnitudes", given, "in [0, 10]")


@dataclass(frozen=True, kw_only=True)
class DataConfig(ImagesConfig):
    """Where labelled images come from.

    Args:
        label_column: The column of labels; null to find it.
        labels_per_class: Train on this many images of each class only; null for all.
        label_fraction: Train on this share of each class only, in (0, 1]; null for all.
        label_seed: Chooses those images: the same ones for every recipe and every run.seed.
        eval_share: Share of each class that is held out to evaluate on where there is no split for
            that, in (0, 1); null for none, which is then an error. Chosen by label_seed.
        fold: [k, n] evaluates on part k of n equal parts of each class's training images and trains
            on the others; those to evaluate on are left alone. Chosen by label_seed.
        eval_crop: Share of the resized image's side that is evaluated, in (0, 1].
    """

    label_column: str | None = None
    labels_per_class: int | None = None
    label_fraction: float | None = None
    label_seed: int = 0
    eval_share: float | None = None
    fold: tuple[int, int] | None = None
    eval_crop: float = 0.875

    def __post_init__(self) -> None:
        super().__post_init__()
        number, share = self.labels_per_class, self.label_fraction
        check(number is None or number > 0, "data.labels_per_class", number, "above 0 or null")
        check(share is None or 0 < share <= 1, "data.label_fraction", share, "in (0, 1] or null")
        allowed = "null here, since data.labels_per_class is given"
        check(number is None or share is None, "data.label_fraction", share, allowed)
        check(self.label_seed >= 0, "data.label_seed", self.label_seed, "at least 0")
        held = self.eval_share
        ok = held is None or 0 < held < 1
        check(ok, "data.eval_share", held, "in (0, 1) or null")
        ok = self.fold is None or 1 <= self.fold[0] <= self.fold[1] >= 2
        check(ok, "data.fold", self.fold, "[k, n] with 1 <= k <= n, and n of at least 2, or null")
        check(0 < self.eval_crop <= 1, "data.eval_crop", self.eval_crop, "in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Augmentation and regularisation of the images, all from timm.

    Args:
        crop_scale: Share of the area that a random crop covers, [least, most].
        flip: Probability of mirroring, in [0, 1].
        randaug: timm's policy string (rand-m9-mstd0.5-inc1); null for none.
        erase: Probability of random erasing, in [0, 1].
        mixup: Alpha of mixup, at least 0; 0 for none.
        cutmix: Alpha of cutmix, at least 0; 0 for none.
        mixup_prob: Probability, in [0, 1], of mixing up a batch, by mixup or cutmix.
        label_smoothing: Label smoothing, in [0, 1).
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    randaug: str | None = "rand-m9-mstd0.5-inc1"
    erase: float = 0.25
    mixup: float = 0.8
    cutmix: float = 1.0
    mixup_prob: float = 1.0
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        least, most = self.crop_scale
        ok = 0 < least <= most <= 1
        check(ok, "augment.crop_scale", self.crop_scale, "0 < least <= most <= 1")
        policy = self.randaug or ""
        part = r"-(m\d+(\.\d+)?|n[1-9]\d*|p[\d.]+|mstd[\d.]+|mmax\d+|inc[01]|w\d+|t[\d.]+)"
        ok = not policy.startswith("rand") or re.fullmatch(f"rand({part})*", policy) is not None
        check(ok, "augment.randaug", policy, "a policy of timm such as rand-m9-mstd0.5-inc1")
        for name in ("flip", "erase", "mixup_prob"):
            value = getattr(self, name)
            check(0 <= value <= 1, f"augment.{name}", value, "in [0, 1]")
        for name in ("mixup", "cutmix"):
            check(getattr(self, name) >= 0, f"augment.{name}", getattr(self, name), "at least 0")
        smoothing = self.label_smoothing
        check(0 <= smoothing < 1, "augment.label_smoothing", smoothing, "in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class FinetuneOptimConfig(OptimConfig):
    """The optimizer, its schedule and its batches.

    Args:
        optimizer: adamw or lamb (timm's, with decay inside the trust ratio); betas are those of
            either.
        base_lr: Peak learning rate of the head per 256 images: lr = base_lr · batch_size / 256.
        weight_decay: Weight decay of all parameters but biases, norms, positions and the class
            token.
        layer_decay: Factor, in (0, 1], of a layer's learning rate relative to the layer above it.
        ema_decay: Decay of the moving average of the weights, in (0, 1), shorter at first; the
            average is then what is evaluated and saved. null for no average.
        new_head: How the head begins where the checkpoint has none for the classes: with random
            weights, as the linear probe of the frozen encoder (probe), or as that probe wherever
            there is an encoder and the head is linear (auto).
        class_weights: How much an image of each class counts in the loss: a list, or balanced for
            the inverse of the class's number of images; null for all alike. Only ratios matter.
    """

    optimizer: Literal["adamw", "lamb"] = "adamw"
    epochs: float = 100
    batch_size: int = 1024
    base_lr: float = 5e-4
    min_lr: float = 1e-6
    warmup_epochs: float = 5
    betas: tuple[float, float] = (0.9, 0.999)
    layer_decay: float = 0.65
    ema_decay: float | None = None
    new_head: Literal["random", "probe", "auto"] = "random"
    class_weights: Literal["balanced"] | list[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.layer_decay <= 1, "optim.layer_decay", self.layer_decay, "in (0, 1]")
        decay, weights = self.ema_decay, self.class_weights
        check(decay is None or 0 < decay < 1, "optim.ema_decay", decay, "in (0, 1) or null")
        ok = not isinstance(weights, list) or all(0 < weight < math.inf for weight in weights)
        check(ok, "optim.class_weights", weights, "balanced, null or numbers above 0")


@dataclass(frozen=True, kw_only=True)
class FinetuneRunConfig(RunConfig):
    """Where and how the run takes place.

    Args:
        seed: Seed of the head and of the samples.
        eval_every: Steps between evaluations; null for once an epoch.
        patience: Consecutive evaluations without a better top-1 accuracy after which the run ends;
            null for all epochs.
    """

    output_dir: str = "runs/finetune"
    patience: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        patience = self.patience
        check(patience is None or patience > 0, "run.patience", patience, "above 0 or null")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TrainingConfig):
    """A whole fine-tuning run."""

    checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "the pretrained encoder, or none to train from scratch: RUN/encoder, a .pth "
            "file of the reference implementation, a transformers folder, a classifier of an "
            "earlier run, or a name: timm:MODEL.TAG, hub:OWNER/NAME[@REVISION]"
        },
    )
    mode: Literal["finetune", "linear", "knn"] = field(
        default="finetune",
        metadata={
            "help": "what is trained: all of the network (finetune), or a linear classifier on the "
            "frozen encoder (linear); knn classifies by its nearest neighbours"
        },
    )
    keep_head: bool = field(
        default=False,
        metadata={
            "help": "keep the checkpoint's head although it does not name its classes, or names "
            "others; there must be as many"
        },
    )
    model: ClassifierConfig
    curriculum: SupervisedCurriculumConfig
    data: DataConfig
    augment: AugmentConfig
    optim: FinetuneOptimConfig
    run: FinetuneRunConfig

    def __post_init__(self) -> None:
        checkpoint, mode = self.checkpoint, self.mode
        allowed = "given: RUN/encoder, a .pth file, or none to train from scratch"
        check(checkpoint is not None, "--checkpoint", checkpoint, allowed)
        ok = mode == "finetune" or checkpoint != "none"
        check(ok, "--checkpoint", checkpoint, f"an encoder for --mode {mode}")
        ok = not self.keep_head or (mode == "finetune" and checkpoint != "none")
        check(ok, "--keep_head", self.keep_head, "false without a checkpoint to fine-tune")
        head = self.optim.new_head
        ok = head != "probe" or checkpoint != "none"
        check(ok, "optim.new_head", head, "random or auto without an encoder to probe")
        super().__post_init__()
        policy, in_chans = self.augment.randaug, self.model.in_chans
        allowed = f"null for model.in_chans {in_chans}: its operations take grey or RGB"
        check(in_chans in (1, 3) or policy is None, "augment.randaug", policy, allowed)
        has_magnitude = re.search(r"-m\d", policy or "") is not None
        ok = policy is None or self.curriculum.stage_magnitudes is None or has_magnitude
        allowed = "a policy with a magnitude (rand-m9-…), which curriculum.magnitudes replaces"
        check(ok, "augment.randaug", policy, allowed)
