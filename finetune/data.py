"""Labelled images: the samples of training and evaluation, and timm's transforms.

Images of 8 bits stay uint8 until they are on the device, which normalises them and fills what is
erased.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from timm.data import create_transform
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import MaybePILToTensor
from torch import Tensor
from torchvision.transforms import Compose
from torchvision.transforms.functional import to_pil_image

from mae_et.curriculum import Curriculum, Size, as_pair
from mae_et.data import (
    AnyImage,
    ArrayImage,
    Box,
    ImageTable,
    LabelledImages,
    SampleClock,
    Samples,
    allow_pixels,
    check_every_class,
    choose_labels,
    eval_split_name,
    eval_transform,
    load_splits,
    take_split,
)
from mae_et.errors import check

from .config import ClassifierConfig, DataConfig, FinetuneConfig


@dataclass(frozen=True, kw_only=True)
class LabelledSplits:
    """The images that a run learns from and is measured on, and its class names by number."""

    train: LabelledImages
    held_out: LabelledImages
    class_names: list[str]


def load_labelled(source: DataConfig) -> LabelledSplits:
    """Load the labelled images of a run.

    Args:
        source: The section `data` of the configuration.

    Raises:
        ValueError: A split, a column or a class is missing, or there are too few labels.
    """
    source.check_given()
    assert source.path is not None
    allow_pixels(source.max_pixels)
    splits = load_splits(source.path, source.layout)
    train = LabelledImages(take_split(splits, source.split, "data.split"), source.label_column)
    name = eval_split_name(splits, source.split, source.eval_split)
    if name is None:
        held_out = _hold_out(train, source, splits)
    else:
        rows = take_split(splits, name, "data.eval_split")
        held_out = LabelledImages(rows, source.label_column, train.class_names)
    check_every_class(train, other=held_out)
    train.take(
        choose_labels(
            train.labels,
            train.class_names,
            per_class=source.labels_per_class,
            fraction=source.label_fraction,
            seed=source.label_seed,
        )
    )
    if source.fold is not None:
        held_out = _take_fold(train, source.fold, source.label_seed)
    return LabelledSplits(train=train, held_out=held_out, class_names=train.class_names)


def _take_fold(train: LabelledImages, fold: tuple[int, int], seed: int) -> LabelledImages:
    """Take a part of each class out of the training images, and return it.

    Raises:
        ValueError: There are too few images of a class.
    """
    part, number = fold
    shuffled = np.random.default_rng([seed, 7]).permutation(len(train))
    by_class = shuffled[np.argsort(train.labels[shuffled], kind="stable")]
    _, counts = np.unique(train.labels, return_counts=True)
    ranks, fewest = np.concatenate([np.arange(count) for count in counts]), int(counts.min())
    allowed = f"of at most {fewest} parts, the training images of the smallest class"
    check(number <= fewest, "data.fold", list(fold), allowed)
    chosen = by_class[ranks % number == part - 1]
    return _take_out(train, np.sort(chosen))


def _hold_out(train: LabelledImages, source: DataConfig, splits: Collection[str]) -> LabelledImages:
    """Take a share of each class out of the training images, and return it.

    Raises:
        ValueError: No share is given, or a class would be left without images.
    """
    if source.eval_share is None:
        raise ValueError(
            "data.path must have a split to evaluate on, validation or test; data.eval_split names "
            "another, and --data.eval_share 0.2 holds out a fifth of each class; got only "
            f"{', '.join(splits)}"
        )
    chosen = choose_labels(
        train.labels,
        train.class_names,
        per_class=None,
        fraction=source.eval_share,
        seed=source.label_seed,
    )
    return _take_out(train, chosen)


def _take_out(images: LabelledImages, rows: np.ndarray) -> LabelledImages:
    """Take rows out of images, and return them."""
    taken = copy.copy(images)
    taken.take(rows)
    images.take(np.setdiff1d(np.arange(len(images)), rows))
    return taken


def training_samples(
    config: FinetuneConfig, images: LabelledImages, schedule: Curriculum
) -> Samples:
    """Return samples of images, augmented as strongly as the stage of their step requires."""
    transform = TrainTransform(config, images.labels, schedule)
    return _samples(config, images, transform, shuffle=True, clock=transform.clock)


def evaluation_samples(config: FinetuneConfig, images: LabelledImages) -> Samples:
    """Return samples of the centres of the images, in order."""
    transform = EvalTransform(config.model, config.data, images.labels)
    return _samples(config, images, transform, shuffle=False)


def _samples(
    config: FinetuneConfig, images: LabelledImages, transform: Any, **options: Any
) -> Samples:
    table = ImageTable(images.dataset, config.data.image_column, config.model.in_chans)
    return Samples(table, transform, config.run.seed, **options)


class TrainTransform:
    """Augments images with timm: "image" (C, h, w), "label" (), and "kept" (1, h, w) if erasing.

    The sample number gives the step, and the step's stage the magnitude of RandAug; with
    `data.downsample: loader`, also the size, at which RandAug and erasing then act. Pixels that are
    not "kept" are to be erased, see `erase`.

    Raises:
        ValueError: timm does not know the policy of RandAug.
    """

    def __init__(self, config: FinetuneConfig, labels: Any, schedule: Curriculum) -> None:
        self.labels = labels
        self.schedule = schedule
        self.clock = SampleClock(config.optim.batch_size, curriculum=schedule)
        at_stage = config.data.downsample == "loader"
        self.by_stage = [
            Augmentation(config, stage.size if at_stage else schedule.full_size, policy)
            for stage, policy in zip(
                schedule.stages, randaug_policies(config, len(schedule.stages)), strict=True
            )
        ]

    def __call__(self, image: AnyImage, index: int, number: int) -> dict[str, Any]:
        """Return the fields of sample `number`, made of the image in row `index`."""
        stage = self.schedule.stage_at(self.clock.step_of(number))
        augment = self.by_stage[self.schedule.stages.index(stage)]
        return {**augment(image), "label": int(self.labels[index])}


def randaug_policies(config: FinetuneConfig, num_stages: int) -> list[str | None]:
    """Return timm's RandAug policy of each stage."""
    policy, magnitudes = config.augment.randaug, config.curriculum.stage_magnitudes
    if policy is None or magnitudes is None:
        return [policy] * num_stages
    return [re.sub(r"-m[\d.]+", f"-m{magnitude:g}", policy) for magnitude in magnitudes]


class Augmentation:
    """Augments images of one size with timm, on no more pixels than the random crop needs.

    Args:
        config: The run.
        size: Size of the images in pixels.
        randaug: timm's policy; None for none.

    Raises:
        ValueError: timm does not know the policy.
    """

    def __init__(self, config: FinetuneConfig, size: Size, randaug: str | None) -> None:
        source, augment = config.data, config.augment
        try:
            transform = create_transform(
                input_size=(config.model.in_chans, *as_pair(size)),
                is_training=True,
                use_prefetcher=True,
                scale=augment.crop_scale,
                hflip=augment.flip,
                color_jitter=None,
                auto_augment=randaug,
                interpolation="bicubic",
                mean=source.mean,
                std=source.std,
            )
        except AssertionError as error:  # timm's response to an unknown policy
            raise ValueError(
                "augment.randaug must be a policy of timm such as rand-m9-mstd0.5-inc1, "
                f"got {randaug!r} ({error})"
            ) from error
        self.crop, *rest = transform.transforms
        mend_posterize(rest)
        self.rest = Compose([*rest[:-1], MaybePILToTensor()])
        self.has_randaug = randaug is not None
        self.erasing = RandomErasing(augment.erase, device="cpu") if augment.erase else None

    def __call__(self, image: AnyImage) -> dict[str, Tensor]:
        """Return "image" (C, h, w), and "kept" (1, h, w) if anything is to be erased."""
        header = torch.empty(1, *image.size, device="meta")
        box = Box(*self.crop.get_params(header, self.crop.scale, self.crop.ratio))
        pixels = image.crop(box, self.crop.size)
        if self.has_randaug:  # RandAug needs a picture
            if isinstance(image, ArrayImage):
                image.check_bounded("augment.randaug")
            pixels = to_pil_image(pixels.clamp(0, 255).byte())
        sample = {"image": self.rest(pixels)}
        if self.erasing is not None:
            sample["kept"] = self.erasing(torch.ones(1, *self.crop.size, dtype=torch.bool))
        return sample


def erase(images: Tensor, kept: Tensor) -> Tensor:
    """Put normal noise into the pixels of normalised images (N, C, H, W) that are not kept.

    This is timm's random erasing in its mode "pixel", with the noise drawn for the whole batch on
    its device.

    Args:
        images: (N, C, H, W), normalised.
        kept: (N, 1, H, W), False where pixels are erased.
    """
    return torch.where(kept, images, torch.randn_like(images))


def mend_posterize(transforms: Iterable[Any]) -> None:
    """Fix timm's RandAug: at the ends of its scale it asks for zero bits, which Pillow refuses."""
    for part in transforms:
        for operation in getattr(part, "ops", []):
            if operation.name.startswith("Posterize"):
                operation.aug_fn = _posterize


def _posterize(image: Image.Image, num_bits: int, **_: Any) -> Image.Image:
    return ImageOps.posterize(image, max(num_bits, 1)) if num_bits < 8 else image


class EvalTransform:
    """Takes the centre of an image: "image" (C, H, W), "label" (), and "is_own" ().

    An image that replaces an unreadable one is not the sample's own.

    Args:
        model: The section `model` of the configuration.
        source: The section `data` of the configuration.
        labels: (images,), class numbers by row.
    """

    def __init__(self, model: ClassifierConfig, source: DataConfig, labels: Any) -> None:
        self.labels = labels
        self.transform = eval_transform(
            input_size=(model.in_chans, *as_pair(model.image_size)),
            interpolation="bicubic",
            crop_pct=source.eval_crop,
        )

    def __call__(self, image: AnyImage, index: int, number: int) -> dict[str, Any]:
        """Return the fields of sample `number`, made of the image in row `index`."""
        label = int(self.labels[index])
        pixels = self.transform(image.decode())
        return {"image": pixels, "label": label, "is_own": index == number}
