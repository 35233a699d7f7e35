"""The column of images of a data set."""

from __future__ import annotations

import io
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
        self.column = image_column(dataset, column)
        only = dataset.select_columns([self.column])
        self.rows = only.cast_column(self.column, datasets.Image(decode=False))
        self.in_chans = in_chans

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> EncodedImage:
        """The image of a row.

        Raises:
            UnreadableImageError: it is none; the message names it.
        """
        cell = self.rows[index][self.column]
        return open_image(cell, self.in_chans, self._name(cell, index))

    def blank(self) -> Image.Image:
        """An image in the place of one that can't be decoded."""
        return Image.new(MODES[self.in_chans], (32, 32))

    def name(self, index: int) -> str:
        """The file of a row, or its number if it has none."""
        return self._name(self.rows[index][self.column], index)

    def _name(self, cell: Any, index: int) -> str:
        return name_of(cell, f"{self.rows.split} row {index}")


def image_column(dataset: datasets.Dataset | datasets.IterableDataset, column: str | None) -> str:
    """The name of a data set's column of images.

    Raises:
        ValueError: there is no such column, or none is asked for and there are several.
    """
    features = dataset.features or {}
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    found = column or (images[0] if len(images) == 1 else "")
    if found not in images:
        raise ValueError(
            f"data.image_column must be a column of `datasets.Image` "
            f"({', '.join(images) or 'there is none'}; all columns: "
            f"{', '.join(features) or 'unknown, give the data set its features'}), got {column!r}"
        )
    return found


def open_image(cell: Any, in_chans: int, name: str) -> EncodedImage:
    """The image of a cell that has not been decoded.

    Args:
        cell: a dict of "bytes" or "path"; an image of Pillow, which user code may give.
        in_chans: channels that it is converted to: 1, 3 or 4.
        name: for messages.

    Raises:
        UnreadableImageError: it is none.
    """
    if cell is None:
        raise UnreadableImageError(f"{name}: no image")
    if isinstance(cell, Image.Image):
        buffer = io.BytesIO()
        cell.save(buffer, "PNG", compress_level=0)
        cell = {"bytes": buffer.getvalue()}
    try:
        encoded = cell["bytes"] or Path(cell["path"]).read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"{name}: {error}") from error
    return EncodedImage(encoded, MODES[in_chans], name)


def name_of(cell: Any, otherwise: str) -> str:
    """The file of a cell, or what else it is called."""
    return (isinstance(cell, dict) and cell["path"]) or otherwise
