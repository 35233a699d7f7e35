"""What a pretraining run is made of: typed, frozen sections, checked when they are built.

A recipe is a YAML file of these fields; the command line overrides any of them
(`--optim.epochs 400`). Every check that needs no data is here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .checks import check, check_positive
from .curriculum import Size
from .curriculum_config import CurriculumConfig

PATH_KINDS = (
    "hub:NAME[:CONFIG][@REVISION], imagefolder:DIR, parquet:FILES, webdataset:FILES, disk:DIR or "
    "python:MODULE:FUNCTION"
)
"""FILES are a file, a folder, or a glob pattern."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class HogConfig:
    """Histograms of oriented gradients; see `mae_et.targets.hog`.

    Args:
        bins: orientations in 180 degrees.
        cell: pixels; divides the patch size.
        gradient: sobel (as in MaskFeat) or central differences (as in the first paper on HOG).
    """

    bins: int = 9
    cell: int = 8
    gradient: Literal["sobel", "central"] = "sobel"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The encoder by its timm name, and the decoder.

    Args:
        encoder: name of a timm VisionTransformer with absolute positions.
        encoder_args: further arguments of the timm model (embed_dim, depth, num_heads, …).
        image_size: full size in pixels, one number or [height, width].
        patch_size: pixels; null for the encoder's own.
        in_chans: image channels; 1 (grey), 3 (RGB) or 4 (RGBA) for pictures, any number for arrays
            and TIFF files.
        decoder_dim: width of the decoder.
        decoder_depth: blocks of the decoder.
        decoder_num_heads: attention heads of the decoder.
        decoder: what masked patches attend to in the decoder, all patches (self, as in MAE) or the
            visible ones alone (cross, as in CrossMAE).
        decode_ratio: share of the masked patches, in (0, 1], that a training step decodes and
            scores, drawn at random; evaluations decode all. CrossMAE counts it of all patches: its
            prediction ratio is decode_ratio times mask_ratio.
        mask_ratio: share of masked patches, in (0, 1).
        target: what is predicted, pixels, pixels normalised per patch, or histograms of oriented
            gradients (hog).
        hog: options of the target hog.
        positions: fixed sin-cos tables (as in MAE) or learned ones.
    """

    encoder: str = "vit_base_patch16_224"
    encoder_args: dict[str, Any] = field(default_factory=dict)
    image_size: Size = 224
    patch_size: Size | None = None
    in_chans: int = 3
    decoder_dim: int = 512
    decoder_depth: int = 8
    decoder_num_heads: int = 16
    decoder: Literal["self", "cross"] = "self"
    decode_ratio: float = 1.0
    mask_ratio: float = 0.75
    target: Literal["norm_pixel", "pixel", "hog"] = "norm_pixel"
    hog: HogConfig = field(default_factory=HogConfig)
    positions: Literal["sincos", "learned"] = "sincos"

    def __post_init__(self) -> None:
        check_positive(self, "model", "in_chans", "decoder_dim", "decoder_num_heads")
        check(self.decoder_depth >= 0, "model.decoder_depth", self.decoder_depth, "at least 0")
        check(0 < self.mask_ratio < 1, "model.mask_ratio", self.mask_ratio, "in (0, 1)")


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One of several data sets: see `DataConfig`.

    Args:
        path: as data.path.
        weight: share of the samples, relative to the weights of the others; null in all of them
            for one sample per image and epoch.
        split: as data.split.
        eval_split: as data.eval_split.
        image_column: as data.image_column.
    """

    path: str
    weight: float | None = None
    split: str = "train"
    eval_split: str | None = None
    image_column: str | None = None

    def __post_init__(self) -> None:
        weight = self.weight
        ok = weight is None or 0 < weight < math.inf
        check(ok, "data.sources.weight", weight, "above 0 and finite, or null")


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """A size at which images are used again: see `DataConfig`.

    Args:
        size: input size of the stages, in pixels.
        ratio: 1/ratio of a step's images come from the loader.
        batches: how many batches of images are kept to draw the others from.
    """

    size: Size
    ratio: int
    batches: int

    def __post_init__(self) -> None:
        check(self.ratio > 1, "data.replay.ratio", self.ratio, "above 1")
        check(self.batches > 0, "data.replay.batches", self.batches, "above 0")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where images come from, and how they are cropped and normalised.

    Args:
        path: hub:NAME[:CONFIG][@REVISION], imagefolder:DIR, parquet:FILES, webdataset:FILES (tar
            shards), disk:DIR (saved by `datasets`) or python:MODULE:FUNCTION (a function of your
            own that returns a Dataset or IterableDataset of `datasets`, or a dict of them by
            split); FILES are a file, a folder or a glob pattern.
        sources: several data sets in place of `path`: a list of {path, weight, split, eval_split,
            image_column}, of which only path is needed.
        streaming: whether a data set of hub, parquet or webdataset is read as a stream, without a
            copy on this machine, its shards and blocks of its images in random order.
        shuffle_buffer: images of a stream that are held in memory to be shuffled, over all
            processes.
        num_images: of the training split, for streams whose images can't be counted before the
            run, and for `plan`; null to count them (Parquet, local tar files).
        split: the split to train on.
        eval_split: the split of the held-out images; null for validation or test if there is one,
            else a part of the training split is held out.
        eval_images: size of the held-out set; at most a tenth of the training split if it comes
            from there.
        image_column: null to find it.
        crop_scale: share of the area that a random crop covers, [least, most].
        first_crop_scale: the same in the first stage, from where it goes to crop_scale in equal
            steps, a stage each: from weak to strong augmentation. null for crop_scale throughout.
        color_jitter: how far brightness, contrast and saturation vary, in (0, 1], and hue a quarter
            as far; null for not at all, as in MAE.
        first_color_jitter: the same in the first stage, in [0, 1]; null for color_jitter
            throughout.
        flip: whether half of the images are mirrored.
        downsample: where the images of a small stage shrink: device, by the exact low-frequency
            crop of a full-size image, or loader, whose workers then decode, resize and hand over
            no more than the stage needs (bicubic, antialiased, as EfficientTrain++ does).
        replay: sizes at which a step takes only a part of its images from the loader and the
            others, at random, from the latest ones of that size: a list of {size, ratio, batches}
            (EfficientTrain++: ratio 4 and 1920 batches at 96, 2 and 256 at 160).
        mean: per channel, of values in [0, 1]: unsigned numbers are divided by the largest of their
            type (255, 65535). Other numbers are taken as they are. `mae_et stats` prints it.
        std: per channel, likewise.
        num_workers: loader processes per training process; 0 loads in the training process.
        bad_images: what is done about an image that can't be decoded: replace, by another one, or
            raise, which stops the run after the step.
        max_bad_share: share of the data set's images that may be unreadable, in [0, 1], before the
            run stops at the next log step.
    """

    path: str | None = None
    sources: list[SourceConfig] = field(default_factory=list)
    streaming: bool = False
    shuffle_buffer: int = 16_384
    num_images: int | None = None
    split: str = "train"
    eval_split: str | None = None
    eval_images: int = 1024
    image_column: str | None = None
    crop_scale: tuple[float, float] = (0.2, 1.0)
    first_crop_scale: tuple[float, float] | None = None
    color_jitter: float | None = None
    first_color_jitter: float | None = None
    flip: bool = True
    downsample: Literal["device", "loader"] = "device"
    replay: list[ReplayConfig] = field(default_factory=list)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    num_workers: int = 8
    bad_images: Literal["replace", "raise"] = "replace"
    max_bad_share: float = 0.01

    def __post_init__(self) -> None:
        for name in ("path", "eval_split", "image_column"):
            value = getattr(self, name)
            allowed = "null with data.sources, which have their own"
            check(not self.sources or value is None, f"data.{name}", value, allowed)
        ok = not self.sources or self.split == "train"
        check(ok, "data.split", self.split, "train with data.sources, which have their own")
        check_source(self.num_workers, self.max_bad_share)
        weights = [source.weight for source in self.sources]
        ok = None not in weights or not any(weights)
        check(ok, "data.sources", weights, "all with a weight or all without")
        ok = not (self.sources and self.streaming)
        check(ok, "data.streaming", self.streaming, "false with data.sources")
        check_positive(self, "data", "eval_images", "shuffle_buffer")
        sizes = [part.size for part in self.replay]
        ok = all(sizes.count(size) == 1 for size in sizes)
        check(ok, "data.replay", sizes, "of sizes that differ")
        ok = self.num_images is None or self.num_images > 0
        check(ok, "data.num_images", self.num_images, "above 0 or null")
        for name in ("crop_scale", "first_crop_scale"):
            least, most = getattr(self, name) or self.crop_scale
            check(0 < least <= most <= 1, f"data.{name}", (least, most), "0 < least <= most <= 1")
        jitter, first_jitter = self.color_jitter, self.first_color_jitter
        check(jitter is None or 0 < jitter <= 1, "data.color_jitter", jitter, "in (0, 1] or null")
        check(
            first_jitter is None or (jitter is not None and 0 <= first_jitter <= 1),
            "data.first_color_jitter",
            first_jitter,
            "in [0, 1], together with data.color_jitter, or null",
        )

    def check_given(self) -> None:
        """Whoever reads images needs a data set.

        Raises:
            ValueError: there is none.
        """
        if not self.sources:
            check_path(self.path)


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
        progress: whether a progress bar is shown.
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


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """A whole pretraining run.

    `checkpoint` has the weights to start from, null for new ones: a .pth file of the reference
    implementation, a run, its encoder, or a folder of transformers' ViTMAE.
    """

    checkpoint: str | None = None
    model: ModelConfig
    curriculum: CurriculumConfig
    data: DataConfig
    optim: OptimConfig
    eval: EvalConfig
    probe: ProbeConfig
    run: RunConfig

    def __post_init__(self) -> None:
        check_channels(self.model.in_chans, self.data.mean, self.data.std)
        jitter = self.data.color_jitter
        allowed = f"null for model.in_chans {self.model.in_chans}"
        check(jitter is None or self.model.in_chans in (1, 3), "data.color_jitter", jitter, allowed)
        for name in ("first_crop_scale", "first_color_jitter"):
            value, has_stages = getattr(self.data, name), self.curriculum.num_stages > 1
            check(value is None or has_stages, f"data.{name}", value, "null without stages to vary")


def check_path(path: str | None) -> None:
    """Whoever reads images needs data.path."""
    check(path is not None, "data.path", path, PATH_KINDS)


def check_source(num_workers: int, max_bad_share: float) -> None:
    """The fields that every source of images has."""
    check(num_workers >= 0, "data.num_workers", num_workers, "at least 0")
    check(0 <= max_bad_share <= 1, "data.max_bad_share", max_bad_share, "in [0, 1]")


def allowed_bad_share(source: Any) -> float:
    """The share of a source's images that may be unreadable."""
    return 0.0 if source.bad_images == "raise" else source.max_bad_share


def check_channels(in_chans: int, mean: Sequence[float], std: Sequence[float]) -> None:
    """Images have at least one channel, with a mean and a deviation for each."""
    check(in_chans > 0, "model.in_chans", in_chans, "above 0")
    check(all(map(math.isfinite, mean)), "data.mean", mean, "finite")
    check(all(0 < value < math.inf for value in std), "data.std", std, "above 0 and finite")
    for name, value in (("mean", mean), ("std", std)):
        check(len(value) == in_chans, f"data.{name}", value, f"{in_chans} numbers, one per channel")
