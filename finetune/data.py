"""Labelled images: finding the labels, choosing a balanced part of them, and timm's transforms."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
from PIL import Image
from timm.data import create_transform

from mae_et.curriculum import as_pair
from mae_et.data import ImageTable, SampleStream, eval_split_name, load_splits, take_split

from .config import FinetuneConfig

MAX_CLASSES = 100_000


class LabelledImages:
    """A split with its labels as class numbers.

    Args:
        dataset: has a column of labels: class labels, integers from 0, or strings.
        column: its name; None for the only column of class labels, or "label".
        class_names: of the training split, for a split to evaluate on; None to find them.

    Raises:
        ValueError: there is no such column, or it holds other classes.
    """

    def __init__(
        self, dataset: datasets.Dataset, column: str | None, class_names: list[str] | None = None
    ) -> None:
        classes = [
            name
            for name, feature in dataset.features.items()
            if isinstance(feature, datasets.ClassLabel)
        ]
        self.column = column or (classes[0] if len(classes) == 1 else "label")
        if self.column not in dataset.column_names:
            raise ValueError(
                f"data.label_column must be one of {', '.join(dataset.column_names)}, "
                f"got {column!r}"
            )
        feature = dataset.features[self.column]
        kind = feature.dtype if isinstance(feature, datasets.Value) else type(feature).__name__
        if kind != "ClassLabel" and kind != "string" and "int" not in kind:
            raise ValueError(
                f"data.label_column must hold class labels, integers from 0 or strings, "
                f"got {self.column!r} with {kind}"
            )
        values = dataset[self.column][:]
        missing = sum(value is None or value == -1 for value in values)
        if missing:
            raise ValueError(
                f"data.label_column must hold a label in every row, got {self.column!r} with "
                f"{missing} rows without"
            )
        if kind == "ClassLabel":
            values = [feature.names[value] for value in values]
        self.class_names = class_names or _class_names(feature, values)
        number = {name: index for index, name in enumerate(self.class_names)}
        unknown = sorted({str(value) for value in values} - number.keys())
        if unknown:
            raise ValueError(
                f"data.eval_split must have the classes of the training split, got {self.column!r} "
                f"with {', '.join(unknown[:5])}, which it has not"
            )
        self.dataset = dataset
        self.labels = np.array([number[str(value)] for value in values])

    def take(self, rows: Any) -> None:
        """Keep some of the rows."""
        self.dataset = self.dataset.select(rows)
        self.labels = self.labels[rows]


def _class_names(feature: Any, values: list[Any]) -> list[str]:
    if isinstance(feature, datasets.ClassLabel):
        return list(feature.names)
    if feature.dtype == "string":
        return sorted(set(values))
    if min(values) < 0:
        raise ValueError(f"data.label_column must hold integers from 0, got {min(values)}")
    if max(values) >= MAX_CLASSES:
        raise ValueError(
            f"data.label_column must hold integers below {MAX_CLASSES}, got {max(values)}"
        )
    return [str(label) for label in range(max(values) + 1)]


def choose_labels(
    labels: Any, num_classes: int, *, per_class: int | None, fraction: float | None, seed: int
) -> Any:
    """The rows of a balanced part of the labels, in order.

    Args:
        labels: (N,) class numbers.
        num_classes: classes.
        per_class: rows of each class, or None.
        fraction: share of each class's rows, or None.
        seed: chooses the rows.

    Raises:
        ValueError: a class has not that many rows, or would get none.
    """
    if per_class is None and fraction is None:
        return np.arange(len(labels))
    rng = np.random.default_rng([seed, 2])
    chosen = []
    for label in range(num_classes):
        rows = rng.permutation(np.flatnonzero(labels == label))
        if per_class is not None and per_class > len(rows):
            raise ValueError(
                f"data.labels_per_class must be at most {len(rows)}, the images of class {label}, "
                f"got {per_class}"
            )
        number = per_class if per_class is not None else round((fraction or 0) * len(rows))
        if number < 1:
            raise ValueError(
                f"data.label_fraction must leave a label for each of the {num_classes} classes, "
                f"got {fraction} of the {len(rows)} images of class {label}"
            )
        chosen.append(rows[:number])
    return np.sort(np.concatenate(chosen))


def load_labelled(config: FinetuneConfig) -> tuple[SampleStream, SampleStream, list[str]]:
    """The streams of training images and of evaluation images, and the names of the classes.

    Raises:
        ValueError: a split, a column or enough labels are missing.
    """
    source = config.data
    assert source.path is not None
    splits = load_splits(source.path)
    train = LabelledImages(take_split(splits, source.split, "data.split"), source.label_column)
    name = eval_split_name(splits, source.split, source.eval_split)
    if name is None:
        raise ValueError(
            "data.path must have a split to evaluate on, validation or test, or data.eval_split "
            f"name another; got only {', '.join(splits)}"
        )
    num_classes = len(train.class_names)
    if num_classes < 2:
        raise ValueError(f"data.label_column must have at least 2 classes, got {num_classes}")
    rows = take_split(splits, name, "data.eval_split")
    held_out = LabelledImages(rows, source.label_column, train.class_names)
    train.take(
        choose_labels(
            train.labels,
            num_classes,
            per_class=source.labels_per_class,
            fraction=source.label_fraction,
            seed=source.label_seed,
        )
    )
    seed, channels = config.run.seed, config.model.in_chans
    return (
        SampleStream(
            ImageTable(train.dataset, source.image_column, channels),
            LabelledTransform(config, train.labels, training=True),
            seed,
        ),
        SampleStream(
            ImageTable(held_out.dataset, source.image_column, channels),
            LabelledTransform(config, held_out.labels, training=False),
            seed,
            shuffle=False,
        ),
        train.class_names,
    )


class LabelledTransform:
    """timm's transforms, and the label: "image" (C, H, W) float32, normalised; "label" ()."""

    def __init__(self, config: FinetuneConfig, labels: Any, *, training: bool) -> None:
        augment, source = config.augment, config.data
        self.labels = labels
        try:
            self.transform = create_transform(
                input_size=(config.model.in_chans, *as_pair(config.model.image_size)),
                is_training=training,
                scale=augment.crop_scale,
                hflip=augment.flip,
                color_jitter=None,
                auto_augment=augment.randaug,
                interpolation="bicubic",
                mean=source.mean,
                std=source.std,
                re_prob=augment.erase,
                re_mode="pixel",
                crop_pct=source.eval_crop,
            )
        except AssertionError as error:  # timm's answer to a policy that it does not know
            raise ValueError(
                "augment.randaug must be a policy of timm such as rand-m9-mstd0.5-inc1, "
                f"got {augment.randaug!r} ({error})"
            ) from error

    def __call__(self, image: Image.Image, index: int) -> dict[str, Any]:
        return {"image": self.transform(image), "label": int(self.labels[index])}
