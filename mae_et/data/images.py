"""The column of images of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from .encoded import EncodedImage, UnreadableImageError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Channels -> the Pillow mode that every image is converted to."""


class ImageTable:
    """The images of a data set, read one by one.

    Args:
        dataset: has a column of images.
        column: its name; None if it is the only one.
        in_chans: channels that every image is converted to: 1, 3 or 4.

    Raises:
        ValueError: there is no such column of images.
    """

    def __init__(self, dataset: datasets.Dataset, column: str | None, in_chans: int) -> None:
        images = [
            name
            for name, feature in dataset.features.items()
            if isinstance(feature, datasets.Image)
        ]
        self.column = column or (images[0] if len(images) == 1 else "")
        if self.column not in images:
            raise ValueError(
                f"data.image_column must be a column of `datasets.Image` "
                f"({', '.join(images) or 'there is none'}; all columns: "
                f"{', '.join(dataset.column_names)}), got {column!r}"
            )
        only = dataset.select_columns([self.column])
        self.rows = only.cast_column(self.column, datasets.Image(decode=False))
        self.mode = MODES[in_chans]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> EncodedImage:
        """The image of a row.

        Raises:
            UnreadableImageError: it is none; the message names it.
        """
        cell = self.rows[index][self.column]
        name = self._name(cell, index)
        if cell is None:
            raise UnreadableImageError(f"{name}: no image")
        try:
            encoded = cell["bytes"] or Path(cell["path"]).read_bytes()
        except OSError as error:
            raise UnreadableImageError(f"{name}: {error}") from error
        return EncodedImage(encoded, self.mode, name)

    def blank(self) -> Image.Image:
        """An image in the place of one that can't be decoded."""
        return Image.new(self.mode, (32, 32))

    def name(self, index: int) -> str:
        """The file of a row, or its number if it has none."""
        return self._name(self.rows[index][self.column], index)

    def _name(self, cell: dict[str, Any] | None, index: int) -> str:
        return (cell and cell["path"]) or f"{self.rows.split} row {index}"
