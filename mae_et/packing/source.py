"""The data set to pack, and its images as workers make them smaller."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import datasets
import pyarrow as pa
from datasets.features.features import require_storage_embed
from datasets.table import embed_table_storage
from torch.utils.data import Dataset

from ..data import (
    ImageTable,
    Shrunk,
    UnreadableImageError,
    digest_images,
    image_column,
    read_cell,
    shrink,
)
from .columns import further_columns, label_column, original_name
from .options import PackOptions


class Source:
    """The data set to pack.

    Args:
        splits: Its splits, none of which is empty.
        column: The column of images; None to find it.
        root: Its file or folder, if it is on this machine.
    """

    def __init__(
        self, splits: Mapping[str, datasets.Dataset], column: str | None, root: Path | None
    ) -> None:
        self.splits, self.root = splits, root
        self.image = image_column(next(iter(splits.values())), column)
        self.further = further_columns(splits, self.image)
        self.label = label_column(splits)
        self.tables = {name: ImageTable(rows, self.image, 3) for name, rows in splits.items()}

    def digests(self) -> dict[str, str]:
        """Return the digest of each split's images, by which others are noticed."""
        return {name: digest_images(table) for name, table in self.tables.items()}

    def rows_of(self, split: str, rows: list[int]) -> pa.Table:
        """Return the further columns of some rows; files that they name are read."""
        dataset = self.splits[split]
        names = [name for name in self.further if name in dataset.features]
        if not names:
            return pa.table({})
        table = dataset.select_columns(names).with_format("arrow")[rows]
        if any(require_storage_embed(self.further[name]) for name in names):
            table = embed_table_storage(table)
        return table


class Item(NamedTuple):
    """A row as a worker hands it over."""

    shrunk: Shrunk | None
    """The image; None if it can't be decoded."""
    name: str | None
    """Its file's name, relative to the data set."""
    size: int
    """Bytes of the image as it was."""
    place: str
    """What messages call it."""
    reason: str
    """Why it can't be decoded."""


class ShrunkRows(Dataset[Item]):
    """Row -> its image, made smaller; workers have a copy each."""

    def __init__(self, table: ImageTable, root: Path | None, options: PackOptions) -> None:
        self.table, self.root = table, root
        self.options = {"short_side": options.short_side, "quality": options.quality}

    def __getitem__(self, row: int) -> Item:
        """Read the image of a row, and make it smaller."""
        cell, place = self.table.cell(row)
        try:
            stored = read_cell(cell, place)
            size = len(stored) if isinstance(stored, bytes) else stored.nbytes
            shrunk = shrink(stored, place, **self.options)
        except UnreadableImageError as error:
            return Item(None, None, 0, error.name, error.reason)
        return Item(shrunk, original_name(cell, self.root), size, place, "")
