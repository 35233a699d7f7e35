"""The images to embed: every one of a data set once, split by split, with their classes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets

from ..config import EmbedConfig
from ..data import (
    EveryImage,
    ImageTable,
    allow_pixels,
    digest_images,
    eval_transform,
    find_label_column,
    has_labels,
    label_names,
    load_splits,
    take_split,
    warn_of_range,
)

log = logging.getLogger(__name__)

FIELD = "data.label_column"


@dataclass(frozen=True, kw_only=True)
class Split:
    """A split of a data set.

    Args:
        name: Its name.
        table: Its images.
        rows: The data set that has them.
        label_column: The column of labels; None if there is none.
    """

    name: str
    table: ImageTable
    rows: datasets.Dataset
    label_column: str | None

    def labels(self, rows: slice) -> Sequence[str | None]:
        """Return the names of the classes of some rows; None for those without a label."""
        if self.label_column is None:
            return [None] * (rows.stop - rows.start)
        return label_names(self.rows, self.label_column, rows, FIELD)


class ImagesToEmbed:
    """Every image of a data set once, in its order.

    Args:
        config: Where the images are.
        images: timm's data config of the encoder's images.

    Raises:
        ValueError: A data set, a split or a column is missing.
    """

    def __init__(self, config: EmbedConfig, images: dict[str, Any]) -> None:
        allow_pixels(config.max_pixels)
        splits = load_splits(config.path, config.layout)
        if config.split is not None:
            splits = {config.split: take_split(splits, config.split, "data.split")}
        in_chans = images["input_size"][0]
        self.splits = [
            Split(
                name=str(name),
                table=ImageTable(rows, config.image_column, in_chans),
                rows=rows,
                label_column=_label_column(rows, config.label_column),
            )
            for name, rows in splits.items()
        ]
        self.samples = EveryImage([split.table for split in self.splits], eval_transform(**images))

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def has_labels(self) -> bool:
        """Whether any split has labels."""
        return any(split.label_column is not None for split in self.splits)

    def digest(self) -> str:
        """Return a digest of the number, names and sizes of the images."""
        digest = hashlib.blake2b(digest_size=16)
        for split in self.splits:
            digest.update(f"{split.name} {digest_images(split.table)}\n".encode())
        return digest.hexdigest()

    def facts(self, numbers: range) -> tuple[list[str], list[str | None]]:
        """Return the splits and the names of the classes of consecutive images.

        Args:
            numbers: The numbers of the images, over all splits.

        Raises:
            ValueError: A label is none of the classes.
        """
        names, labels = list[str](), list[str | None]()
        for split, start in zip(self.splits, self.samples.starts[:-1], strict=True):
            first, last = max(numbers.start - start, 0), min(numbers.stop - start, len(split.table))
            if first < last:
                names += [split.name] * (last - first)
                labels += split.labels(slice(first, last))
        return names, labels

    def warn_of_range(self, images: dict[str, Any]) -> None:
        """Warn if the mean and deviation of an encoder's images can't be those of these images."""
        warn_of_range(self.splits[0].table, images["mean"], images["std"])


def _label_column(rows: datasets.Dataset, column: str | None) -> str | None:
    """Return the column of labels, or None and one line if there is none that can be used.

    Raises:
        ValueError: There is no column of that name, or it holds no labels.
    """
    if column is not None:
        return find_label_column(rows, column, FIELD)
    if not has_labels(rows):
        return None
    try:
        return find_label_column(rows, None, FIELD)
    except ValueError as error:
        log.warning("labels are left out: %s", error)
        return None
