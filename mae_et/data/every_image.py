"""Every image of some tables once, in order: what predictions and embeddings are made of."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch.utils.data import Dataset

from .images import ImageTable, UnreadableImageError


class EveryImage(Dataset[dict[str, Any]]):
    """The images of tables, one after the other: "image" (C, H, W), and "file" and "error".

    The last two are lists of one text, which `collate` makes one list of. An image that cannot be
    decoded is black and has an error; any other has "".

    Args:
        tables: The images.
        transform: The transform from an image to pixels.
    """

    def __init__(self, tables: Sequence[ImageTable], transform: Callable[[Any], Any]) -> None:
        self.tables = tables
        self.transform = transform
        self.starts = [0, *accumulate(len(table) for table in tables)]
        """Numbers of the first image of each table, and the number of all images."""

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, number: int) -> dict[str, Any]:
        position = bisect_right(self.starts, number) - 1
        table, row = self.tables[position], number - self.starts[position]
        try:
            image, error = table[row].decode(), ""
        except UnreadableImageError as unreadable:
            image, error = table.blank(), str(unreadable)
        pixels = self.transform(image)
        if pixels.dtype != torch.uint8:  # arrays may be of any type, and differ within a batch
            pixels = pixels.float()
        return {"image": pixels, "file": [table.name(row)], "error": [error]}
