"""Labelled images: the streams of training and evaluation, and timm's transforms."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageOps
from timm.data import create_transform
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from mae_et.curriculum import Curriculum, as_pair
from mae_et.data import (
    AnyImage,
    ArrayImage,
    ImageTable,
    SampleStream,
    eval_split_name,
    load_splits,
    take_split,
)
from mae_et.labels import LabelledImages, check_every_class, choose_labels

from .config import AugmentConfig, DataConfig, FinetuneConfig, ModelConfig


@dataclass(frozen=True, kw_only=True)
class LabelledSplits:
    """What a run learns from and is measured on, and the names of the classes by number."""

    train: LabelledImages
    held_out: LabelledImages
    class_names: list[str]


def load_labelled(source: DataConfig) -> LabelledSplits:
    """The labelled images of a run.

    Raises:
        ValueError: a split, a column, a class or enough labels are missing.
    """
    assert source.path is not None
    splits = load_splits(source.path)
    train = LabelledImages(take_split(splits, source.split, "data.split"), source.label_column)
    name = eval_split_name(splits, source.split, source.eval_split)
    if name is None:
        raise ValueError(
            "data.path must have a split to evaluate on, validation or test, or data.eval_split "
            f"name another; got only {', '.join(splits)}"
        )
    rows = take_split(splits, name, "data.eval_split")
    held_out = LabelledImages(rows, source.label_column, train.class_names)
    check_every_class(train.labels, train.class_names, "data.label_column")
    train.take(
        choose_labels(
            train.labels,
            train.class_names,
            per_class=source.labels_per_class,
            fraction=source.label_fraction,
            seed=source.label_seed,
        )
    )
    return LabelledSplits(train=train, held_out=held_out, class_names=train.class_names)


def training_stream(
    config: FinetuneConfig, images: LabelledImages, schedule: Curriculum
) -> SampleStream:
    """Augmented images, as strongly as the stage of their step asks for."""
    transform = TrainTransform(config, images.labels, schedule)
    return _stream(config, images, transform, shuffle=True)


def evaluation_stream(config: FinetuneConfig, images: LabelledImages) -> SampleStream:
    """The centres of the images, in order."""
    transform = EvalTransform(config.model, config.data, images.labels)
    return _stream(config, images, transform, shuffle=False)


def _stream(
    config: FinetuneConfig, images: LabelledImages, transform: Any, *, shuffle: bool
) -> SampleStream:
    table = ImageTable(images.dataset, config.data.image_column, config.model.in_chans)
    return SampleStream(table, transform, config.run.seed, shuffle=shuffle)


class TrainTransform:
    """timm's augmentation: "image" (C, H, W) float32 at full size, normalised, and "label" ().

    The sample number gives the step, and the step's stage the magnitude of RandAug.

    Raises:
        ValueError: timm does not know the policy of RandAug.
    """

    def __init__(self, config: FinetuneConfig, labels: Any, schedule: Curriculum) -> None:
        self.labels = labels
        self.schedule = schedule
        self.batch_size = config.optim.batch_size
        self.has_randaug = config.augment.randaug is not None
        self.by_stage = [
            _augmentation(config.model, config.data, config.augment, policy)
            for policy in randaug_policies(config, len(schedule.stages))
        ]

    def __call__(self, image: AnyImage, index: int, number: int) -> dict[str, Any]:
        stage = self.schedule.stage_at(number // self.batch_size)
        transform = self.by_stage[self.schedule.stages.index(stage)]
        pixels = transform(for_timm(image, is_picture=self.has_randaug))
        return {"image": pixels, "label": int(self.labels[index])}


def for_timm(image: AnyImage, *, is_picture: bool = False) -> Image.Image | Tensor:
    """An image as timm's transforms take it: a picture, or of an array (C, H, W) float32.

    Args:
        image: any.
        is_picture: whether it has to be a picture, as for RandAug: then arrays keep 8 bits.

    Raises:
        UnreadableImageError: it has to be one, but its numbers have no largest value.
    """
    if not isinstance(image, ArrayImage):
        return image.decode()
    if not is_picture:
        return image.decode().float() / 255
    image.check_bounded("augment.randaug")
    picture: Image.Image = to_pil_image(image.decode().clamp(0, 255).byte())
    return picture


def randaug_policies(config: FinetuneConfig, num_stages: int) -> list[str | None]:
    """timm's RandAug policy of each stage."""
    policy, magnitudes = config.augment.randaug, config.curriculum.stage_magnitudes
    if policy is None or magnitudes is None:
        return [policy] * num_stages
    return [re.sub(r"-m[\d.]+", f"-m{magnitude:g}", policy) for magnitude in magnitudes]


def _augmentation(
    model: ModelConfig, source: DataConfig, augment: AugmentConfig, randaug: str | None
) -> Any:
    try:
        transform = create_transform(
            input_size=(model.in_chans, *as_pair(model.image_size)),
            is_training=True,
            scale=augment.crop_scale,
            hflip=augment.flip,
            color_jitter=None,
            auto_augment=randaug,
            interpolation="bicubic",
            mean=source.mean,
            std=source.std,
            re_prob=augment.erase,
            re_mode="pixel",
        )
    except AssertionError as error:  # timm's answer to a policy that it does not know
        raise ValueError(
            "augment.randaug must be a policy of timm such as rand-m9-mstd0.5-inc1, "
            f"got {randaug!r} ({error})"
        ) from error
    for part in transform.transforms:
        for operation in getattr(part, "ops", []):
            if operation.name.startswith("Posterize"):
                operation.aug_fn = _posterize
    return transform


def _posterize(image: Image.Image, num_bits: int, **_: Any) -> Image.Image:
    """timm asks for no bits at all at the ends of its scale, which newer Pillows refuse."""
    return ImageOps.posterize(image, max(num_bits, 1)) if num_bits < 8 else image


class EvalTransform:
    """The centre of an image: "image" (C, H, W) float32, normalised; "label" (); "is_own" ().

    An image that is in the place of an unreadable one is not the sample's own.
    """

    def __init__(self, model: ModelConfig, source: DataConfig, labels: Any) -> None:
        self.labels = labels
        self.transform = create_transform(
            input_size=(model.in_chans, *as_pair(model.image_size)),
            is_training=False,
            interpolation="bicubic",
            mean=source.mean,
            std=source.std,
            crop_pct=source.eval_crop,
        )

    def __call__(self, image: AnyImage, index: int, number: int) -> dict[str, Any]:
        label = int(self.labels[index])
        pixels = self.transform(for_timm(image))
        return {"image": pixels, "label": label, "is_own": index == number}
