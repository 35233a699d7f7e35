"""The section `data` of a recipe: where images come from, and how they are cropped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..curriculum import Size
from ..errors import check, check_positive

PATH_KINDS = (
    "hub:NAME[:CONFIG][@REVISION], imagefolder:DIR, parquet:FILES, webdataset:FILES, disk:DIR or "
    "python:MODULE:FUNCTION"
)
"""FILES are a file, a folder, or a glob pattern."""


IMAGENET_MEAN = (0.485, 0.456, 0.406)


IMAGENET_STD = (0.229, 0.224, 0.225)


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
