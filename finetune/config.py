"""What a fine-tuning run is made of: typed, frozen sections, checked when they are built."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from mae_et.config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    CurriculumConfig,
    OptimConfig,
    ProbeConfig,
    RunConfig,
    check_channels,
    check_path,
    check_source,
)
from mae_et.curriculum import EFFICIENTTRAIN_MAGNITUDES, EFFICIENTTRAIN_PLUS_MAGNITUDES, Size
from mae_et.errors import check


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """The classifier.

    Args:
        encoder: timm name of any backbone, or module:callable for a constructor of your own. The
            encoder of a checkpoint has to be the same.
        encoder_args: further arguments of the model (embed_dim, depth, num_heads, …).
        image_size: pixels, one number or [height, width]; positions are resampled to it.
        patch_size: pixels; null for the encoder's own.
        in_chans: image channels; 1 (grey), 3 (RGB) or 4 (RGBA) for pictures, any number for arrays
            and TIFF files.
        global_pool: what a VisionTransformer classifies, the average of the patches or the class
            token; null for the model's own way.
        drop_path: stochastic depth of the last block, in [0, 1); earlier ones have less.
    """

    encoder: str = "vit_base_patch16_224"
    encoder_args: dict[str, Any] = field(default_factory=dict)
    image_size: Size = 224
    patch_size: Size | None = None
    in_chans: int = 3
    global_pool: Literal["avg", "token"] | None = "avg"
    drop_path: float = 0.1

    def __post_init__(self) -> None:
        check(0 <= self.drop_path < 1, "model.drop_path", self.drop_path, "in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class SupervisedCurriculumConfig(CurriculumConfig):
    """The input sizes of the run, and how strong its augmentation is at each.

    Args:
        name: constant (full size throughout), efficienttrain (the paper's five stages, scaled to
            the full size, with RandAug from weak to strong), efficienttrain_plus (sub-stages of
            equal cost, likewise), or stages (the list below).
        stages: list of {size: pixels, share: part of all steps}, used with name: stages.
        sizes: of the sub-stages of efficienttrain_plus: a published list (swin, deit or convnext;
            null for swin, the general one), scaled to the full size, or your own list of pixels.
        cost: area, for what a step costs at a size. The run then costs what optim.epochs cost at
            full size, so it has more passes; stages share that cost, and the learning rate goes by
            it. null for area with efficienttrain_plus, and else for stages that share steps.
        nyquist: see `mae_et.low_frequency_crop`.
        magnitudes: RandAug magnitude of each stage, in place of the one in augment.randaug; null
            for 1, 3, 5, 7, 9 with efficienttrain, for 0 to 9 in equal steps with
            efficienttrain_plus, and for augment.randaug as it is otherwise.
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
        if self.magnitudes is not None:
            number = self.num_stages
            check(
                len(self.magnitudes) == number,
                "curriculum.magnitudes",
                self.magnitudes,
                f"{number} numbers, one per stage",
            )
            check(
                all(0 <= magnitude <= 10 for magnitude in self.magnitudes),
                "curriculum.magnitudes",
                self.magnitudes,
                "in [0, 10]",
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where labelled images come from.

    Args:
        path: hub:NAME[:CONFIG][@REVISION], imagefolder:DIR, parquet:FILES, webdataset:FILES (tar
            shards), disk:DIR (saved by `datasets`) or python:MODULE:FUNCTION (a function of your
            own that returns a Dataset of `datasets`, or a dict of them by split); FILES are a file,
            a folder or a glob pattern.
        split: the split to train on.
        eval_split: the split to evaluate on; null for validation or test.
        image_column: null to find it.
        label_column: null to find it.
        labels_per_class: train on this many images of each class only; null for all.
        label_fraction: train on this share of each class only, in (0, 1]; null for all.
        label_seed: chooses those images; the same ones for every recipe and every run.seed.
        downsample: where the images of a small stage shrink: device, by the exact low-frequency
            crop of a full-size image, or loader, whose random crops then have the stage's size, on
            which RandAug and erasing act (bicubic, antialiased, as EfficientTrain++ does).
        mean: per channel, of values in [0, 1]: unsigned numbers are divided by the largest of their
            type (255, 65535). Other numbers are taken as they are. `mae_et stats` prints it.
        std: per channel, likewise.
        eval_crop: share of the resized image's side that is evaluated, in (0, 1].
        num_workers: loader processes per training process; 0 loads in the training process.
        bad_images: what is done about an image that can't be decoded: replace, by another one, or
            raise, which stops the run after the step.
        max_bad_share: share of the data set's images that may be unreadable, in [0, 1], before the
            run stops at the next log step.
    """

    path: str | None = None
    split: str = "train"
    eval_split: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    labels_per_class: int | None = None
    label_fraction: float | None = None
    label_seed: int = 0
    downsample: Literal["device", "loader"] = "device"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    eval_crop: float = 0.875
    num_workers: int = 8
    bad_images: Literal["replace", "raise"] = "replace"
    max_bad_share: float = 0.01

    def __post_init__(self) -> None:
        check_path(self.path)
        check_source(self.num_workers, self.max_bad_share)
        number, share = self.labels_per_class, self.label_fraction
        check(number is None or number > 0, "data.labels_per_class", number, "above 0 or null")
        check(share is None or 0 < share <= 1, "data.label_fraction", share, "in (0, 1] or null")
        check(
            number is None or share is None,
            "data.label_fraction",
            share,
            "null here, since data.labels_per_class is given",
        )
        check(self.label_seed >= 0, "data.label_seed", self.label_seed, "at least 0")
        check(0 < self.eval_crop <= 1, "data.eval_crop", self.eval_crop, "in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Augmentation and regularisation of the images, all by timm.

    Args:
        crop_scale: share of the area that a random crop covers, [least, most].
        flip: probability of mirroring.
        randaug: timm's policy string (rand-m9-mstd0.5-inc1); null for none.
        erase: probability of random erasing.
        mixup: alpha of mixup; 0 for none.
        cutmix: alpha of cutmix; 0 for none.
        mixup_prob: probability of either.
        label_smoothing: in [0, 1).
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
        check(
            0 < least <= most <= 1, "augment.crop_scale", self.crop_scale, "0 < least <= most <= 1"
        )
        policy = self.randaug or ""
        part = r"-(m\d+(\.\d+)?|n[1-9]\d*|p[\d.]+|mstd[\d.]+|mmax\d+|inc[01]|w\d+|t[\d.]+)"
        check(
            not policy.startswith("rand") or re.fullmatch(f"rand({part})*", policy) is not None,
            "augment.randaug",
            policy,
            "a policy of timm such as rand-m9-mstd0.5-inc1",
        )
        for name in ("flip", "erase", "mixup_prob"):
            value = getattr(self, name)
            check(0 <= value <= 1, f"augment.{name}", value, "in [0, 1]")
        for name in ("mixup", "cutmix"):
            check(getattr(self, name) >= 0, f"augment.{name}", getattr(self, name), "at least 0")
        check(
            0 <= self.label_smoothing < 1,
            "augment.label_smoothing",
            self.label_smoothing,
            "in [0, 1)",
        )


@dataclass(frozen=True, kw_only=True)
class FinetuneOptimConfig(OptimConfig):
    """AdamW, its schedule and its batches.

    Args:
        epochs: passes over the training images.
        batch_size: images per optimizer step, over all processes.
        micro_batch_size: most images per forward pass of one process; null for all of its share.
            Rounded down to a divisor of the share.
        base_lr: peak learning rate of the head per 256 images.
        min_lr: learning rate at the end.
        warmup_epochs: linear warm-up from zero.
        weight_decay: of all parameters but biases, norms, positions and the class token.
        betas: of AdamW.
        clip_grad: largest gradient norm; null for no clipping.
        max_skipped_steps: steps in a row with a non-finite gradient after which the run stops.
        layer_decay: each layer has this times the learning rate of the one above it, in (0, 1].
        ema_decay: of the moving average of the weights, which is then what is evaluated and handed
            on, in (0, 1); shorter at first. null for no average.
        class_weights: weights of the classes in the loss: a list, or balanced for the inverse of
            their number of images; null for equal ones. Only their ratios matter.
    """

    epochs: float = 100
    batch_size: int = 1024
    base_lr: float = 5e-4
    min_lr: float = 1e-6
    warmup_epochs: float = 5
    betas: tuple[float, float] = (0.9, 0.999)
    layer_decay: float = 0.65
    ema_decay: float | None = None
    class_weights: Literal["balanced"] | list[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.layer_decay <= 1, "optim.layer_decay", self.layer_decay, "in (0, 1]")
        decay, weights = self.ema_decay, self.class_weights
        check(decay is None or 0 < decay < 1, "optim.ema_decay", decay, "in (0, 1) or null")
        check(
            not isinstance(weights, list) or all(0 < weight < math.inf for weight in weights),
            "optim.class_weights",
            weights,
            "balanced, null or numbers above 0",
        )


@dataclass(frozen=True, kw_only=True)
class FinetuneRunConfig(RunConfig):
    """Where and how the run takes place.

    Args:
        output_dir: folder of this run.
        seed: of the head and of the sample stream.
        mixed_precision: of the forward and backward passes; null for accelerate's setting.
        compile: whether the model is compiled.
        log_every: steps between lines of metrics.jsonl.
        eval_every: steps between evaluations; null for once an epoch.
        patience: evaluations in a row without a better top-1 accuracy after which the run ends;
            null for all epochs.
        checkpoint_every: steps between checkpoints; null for the end only.
        keep_checkpoints: how many are kept.
        tracker: name of an accelerate tracker (tensorboard, wandb, …), auto (TensorBoard if it is
            installed), or none.
        progress: whether a terminal shows a bar; else, and in a file, a line every log_every steps.
    """

    output_dir: str = "runs/finetune"
    patience: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.patience is None or self.patience > 0,
            "run.patience",
            self.patience,
            "above 0 or null",
        )


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """A whole fine-tuning run."""

    checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "the pretrained encoder (RUN/encoder, a .pth file of the reference "
            "implementation, a transformers folder, or a classifier of an earlier run), or none to "
            "train from scratch"
        },
    )
    mode: Literal["finetune", "linear", "knn"] = field(
        default="finetune",
        metadata={
            "help": "train all of the network (finetune), or probe the frozen encoder with a "
            "linear classifier (linear) or its nearest neighbours (knn)"
        },
    )
    model: ClassifierConfig
    curriculum: SupervisedCurriculumConfig
    data: DataConfig
    augment: AugmentConfig
    optim: FinetuneOptimConfig
    probe: ProbeConfig
    run: FinetuneRunConfig

    def __post_init__(self) -> None:
        check(
            self.checkpoint is not None,
            "--checkpoint",
            self.checkpoint,
            "given: RUN/encoder, a .pth file, or none to train from scratch",
        )
        check(
            self.mode == "finetune" or self.checkpoint != "none",
            "--checkpoint",
            self.checkpoint,
            f"an encoder for --mode {self.mode}",
        )
        check_channels(self.model.in_chans, self.data.mean, self.data.std)
        check(
            self.model.in_chans in (1, 3) or self.augment.randaug is None,
            "augment.randaug",
            self.augment.randaug,
            f"null for model.in_chans {self.model.in_chans}: its operations take grey or RGB",
        )
        policy = self.augment.randaug
        check(
            policy is None
            or self.curriculum.stage_magnitudes is None
            or re.search(r"-m\d", policy) is not None,
            "augment.randaug",
            policy,
            "a policy with a magnitude (rand-m9-…), which curriculum.magnitudes replaces",
        )
