"""The section `data` of a recipe: where images come from, and how they are cropped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from ..curriculum import Size
from ..errors import check, check_positive

PATH_KINDS = (
    "a folder that exists, hub:NAME[:CONFIG][@REVISION], imagefolder:DIR, parquet:FILES, "
    "webdataset:FILES, disk:DIR or python:MODULE:FUNCTION"
)
"""The kinds of `data.path`, where FILES are a file, a folder, or a glob pattern.

A path without a kind is a folder of images, if there is one, or the name of a data set of the Hub.
"""

Layout = Literal["auto", "split/class", "class", "class/split", "flat"]
"""How the folders of a folder of images are read."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Where images come from, in pretraining and in fine-tuning.

    Args:
        path: The images: a folder of them, or hub:NAME[:CONFIG][@REVISION], imagefolder:DIR,
            parquet:FILES, webdataset:FILES (tar shards), disk:DIR (saved by `datasets`) or
            python:MODULE:FUNCTION (your own function, which returns a Dataset of `datasets` or a
            dict of them by split; for pretraining it may return an IterableDataset); FILES are a
            file, a folder or a pattern, such as a-*.tar or a-{000..009}.tar. What ends in .parquet
            or .tar needs no kind.
        layout: What the folders of a folder of images are: split/class, class, class/split, or flat
            for neither; auto for splits if all of them are called train, val, test or the like, and
            otherwise for classes. A class may hold further folders, which have no meaning.
        split: The split to train on.
        eval_split: The split to evaluate on; null for validation or test. Without either,
            pretraining holds out a part of the training split.
        image_column: The column of images; null to find it.
        downsample: Where the images of a small stage shrink: device, by the exact low-frequency
            crop of a full-size image, or loader, whose workers then decode and resize to no more
            than the stage needs (bicubic, antialiased, as in EfficientTrain++). RandAug and
            erasing in fine-tuning then act at the stage's size.
        mean: One number per channel, of values in [0, 1]: unsigned numbers are divided by the
            largest of their type (255, 65535). Other numbers are taken as they are. `mae_et stats`
            prints it.
        std: The standard deviation per channel, in the same unit.
        allow_changed: Whether a run resumes although the number, names or sizes of its images have
            changed; otherwise that is an error.
        num_workers: Loader processes per training process; 0 loads in the training process.
        max_pixels: Height times width of the largest image that is read. Larger ones are bad
            images, since a file of a few bytes may claim to be huge. The default is Pillow's limit.
        max_wait: Seconds for which the run waits for the loader's next batch before it stops; null
            for no limit.
        bad_images: What happens to an image that cannot be decoded: replace uses another one in its
            place, and raise stops the run after the step.
        max_bad_share: Share of the images, those held out included, that may be unreadable, in
            [0, 1], before the run stops at the next log step.
    """

    path: str | None = None
    layout: Layout = "auto"
    split: str = "train"
    eval_split: str | None = None
    image_column: str | None = None
    downsample: Literal["device", "loader"] = "device"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    allow_changed: bool = False
    num_workers: int = 8
    max_pixels: int = 178_956_970
    max_wait: float | None = 1800.0
    bad_images: Literal["replace", "raise"] = "replace"
    max_bad_share: float = 0.01

    def __post_init__(self) -> None:
        workers, share = self.num_workers, self.max_bad_share
        check(workers >= 0, "data.num_workers", workers, "at least 0")
        check(self.max_pixels > 0, "data.max_pixels", self.max_pixels, "above 0")
        wait = self.max_wait
        ok = wait is None or 0 < wait < math.inf
        check(ok, "data.max_wait", wait, "above 0 and finite, or null")
        check(0 <= share <= 1, "data.max_bad_share", share, "in [0, 1]")
        check(all(map(math.isfinite, self.mean)), "data.mean", self.mean, "finite")
        ok = all(0 < value < math.inf for value in self.std)
        check(ok, "data.std", self.std, "above 0 and finite")

    @property
    def allowed_bad_share(self) -> float:
        """Share of the images that may be unreadable, in [0, 1]."""
        return 0.0 if self.bad_images == "raise" else self.max_bad_share

    def check_given(self) -> None:
        """Check that a data set is given, which only reading images requires.

        Raises:
            ValueError: There is none.
        """
        if self.path is None:
            raise ValueError(f"data.path must be {PATH_KINDS}; none is given")


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One of several data sets; see `DataConfig.sources`.

    Args:
        path: As data.path.
        weight: Share of the samples, relative to the weights of the other sources; null in all of
            them for one sample per image and epoch.
        layout: As data.layout.
        split: As data.split.
        eval_split: As data.eval_split.
        image_column: As data.image_column.
    """

    path: str
    weight: float | None = None
    layout: Layout = "auto"
    split: str = "train"
    eval_split: str | None = None
    image_column: str | None = None

    def __post_init__(self) -> None:
        weight = self.weight
        ok = weight is None or 0 < weight < math.inf
        check(ok, "data.sources.weight", weight, "above 0 and finite, or null")


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """An input size at which images are used again; see `DataConfig.replay`.

    Args:
        size: Input size of the stages, in pixels.
        ratio: 1/ratio of a step's images come from the loader.
        batches: Number of batches of images from which the others are drawn.
    """

    size: Size
    ratio: int
    batches: int

    def __post_init__(self) -> None:
        check(self.ratio > 1, "data.replay.ratio", self.ratio, "above 1")
        check(self.batches > 0, "data.replay.batches", self.batches, "above 0")


@dataclass(frozen=True, kw_only=True)
class DataConfig(ImagesConfig):
    """Where images come from, and how they are cropped and normalised.

    Args:
        sources: Several data sets in place of `path`: a list of {path, weight, layout, split,
            eval_split, image_column}, of which only path is needed.
        streaming: Whether a data set of hub, parquet or webdataset is read as a stream, without a
            copy on this machine, with its shards and blocks of its images in random order.
        shuffle_buffer: Images of a stream that are held in memory to be shuffled, over all
            processes.
        num_images: Size of the training split, for streams whose images cannot be counted before
            the run, and for `plan`; null to count them (Parquet, local tar files).
        eval_images: Size of the held-out set; at most a tenth of the training split if it comes
            from there.
        crop_scale: Share of the area that a random crop covers, [least, most].
        first_crop_scale: The same in the first stage, from where it moves to crop_scale in equal
            steps, one per stage: from weak to strong augmentation. null for crop_scale throughout.
        color_jitter: How far brightness, contrast and saturation vary, in (0, 1], and hue a quarter
            as far; null for not at all, as in MAE.
        first_color_jitter: The same in the first stage, in [0, 1]; null for color_jitter
            throughout.
        flip: Whether half of the images are mirrored.
        replay: Sizes at which a step takes only a part of its images from the loader and draws the
            others at random from the latest ones of that size: a list of {size, ratio, batches}
            (EfficientTrain++: ratio 4 and 1920 batches at 96, 2 and 256 at 160).
    """

    sources: list[SourceConfig] = field(default_factory=list)
    streaming: bool = False
    shuffle_buffer: int = 16_384
    num_images: int | None = None
    eval_images: int = 1024
    crop_scale: tuple[float, float] = (0.2, 1.0)
    first_crop_scale: tuple[float, float] | None = None
    color_jitter: float | None = None
    first_color_jitter: float | None = None
    flip: bool = True
    replay: list[ReplayConfig] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_sources()
        check_positive(self, "data", "eval_images", "shuffle_buffer")
        sizes = [part.size for part in self.replay]
        ok = all(sizes.count(size) == 1 for size in sizes)
        check(ok, "data.replay", sizes, "of sizes that differ")
        ok = self.num_images is None or self.num_images > 0
        check(ok, "data.num_images", self.num_images, "above 0 or null")
        for name in ("crop_scale", "first_crop_scale"):
            least, most = getattr(self, name) or self.crop_scale
            check(0 < least <= most <= 1, f"data.{name}", (least, most), "0 < least <= most <= 1")
        jitter, first = self.color_jitter, self.first_color_jitter
        check(jitter is None or 0 < jitter <= 1, "data.color_jitter", jitter, "in (0, 1] or null")
        ok = first is None or (jitter is not None and 0 <= first <= 1)
        allowed = "in [0, 1], together with data.color_jitter, or null"
        check(ok, "data.first_color_jitter", first, allowed)

    def _check_sources(self) -> None:
        for name in ("path", "eval_split", "image_column"):
            value = getattr(self, name)
            allowed = "null with data.sources, which have their own"
            check(not self.sources or value is None, f"data.{name}", value, allowed)
        for name, default in (("split", "train"), ("layout", "auto")):
            value = getattr(self, name)
            allowed = f"{default} with data.sources, which have their own"
            check(not self.sources or value == default, f"data.{name}", value, allowed)
        weights = [source.weight for source in self.sources]
        ok = None not in weights or not any(weights)
        check(ok, "data.sources", weights, "all with a weight or all without")
        ok = not (self.sources and self.streaming)
        check(ok, "data.streaming", self.streaming, "false with data.sources")

    def check_given(self) -> None:
        """Check that there is a data set, or several; see `ImagesConfig.check_given`.

        Raises:
            ValueError: There is none.
        """
        if not self.sources:
            super().check_given()

    @classmethod
    def from_run(cls, values: Mapping[str, Any]) -> DataConfig:
        """Build the section of a run's configuration, possibly written by another version.

        Fields that this version does not know are left out, and so is `replay`, which only
        training uses.

        Args:
            values: The section as plain data.
        """
        known = {name: values[name] for name in {item.name for item in fields(cls)} & values.keys()}
        known["sources"] = [SourceConfig(**part) for part in known.get("sources", ())]
        return cls(**{**known, "replay": []})
