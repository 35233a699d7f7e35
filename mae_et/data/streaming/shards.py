"""The images of a stream: the shards (files) that hold them, and how many rows each shard has."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, islice
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import torch

from ...errors import ProcessStoppedError, first_line
from .. import tables
from ..images import AnyImage, image_column, open_image, origin_of, place_of, undecoded
from ..tables import ENDINGS, count_samples
from .order import ShardPlan, Span

MAX_LANES = 64
"""The most lanes in which a stream is read."""

MAX_HELD_OUT_SHARDS = 16
"""The most shards from which images are held out."""


class Cell(NamedTuple):
    """An image that has been read but not decoded."""

    value: Any
    """The image as its shard holds it."""
    name: str
    """Its name for messages."""


class StreamedImages:
    """The images of a stream.

    Args:
        stream: A stream with a column of images.
        column: The name of that column; None if it is the only one.
        in_chans: Channels of the model, to which every image is converted.
        files: The files of the shards, if known.
        num_images: Images of an epoch, for shards whose rows can't be counted; None to count them.

    Raises:
        ValueError: There is no such column of images, or the number of images is unknown.
    """

    def __init__(
        self,
        stream: datasets.IterableDataset,
        column: str | None,
        in_chans: int,
        files: Sequence[str] = (),
        num_images: int | None = None,
    ) -> None:
        self.in_chans = in_chans
        self.column = image_column(stream, column)
        self.rows = undecoded(stream, self.column)
        self.num_shards = stream.num_shards
        self.lengths: list[int | None] = [None] * self.num_shards
        if num_images is None and len(files) == self.num_shards:
            self.lengths = count_rows(files)
        self.left_out = [0] * self.num_shards
        if None not in self.lengths:
            num_images = sum(rows or 0 for rows in self.lengths)
        splits = stream.info.splits or {}
        if num_images is None and stream.split in splits:
            num_images = splits[stream.split].num_examples
        if num_images is None:
            raise ValueError(
                "data.num_images must be given for a stream whose images can't be counted in "
                "advance (other than Parquet files and local tar files), got null"
            )
        self.num_images = num_images

    def __len__(self) -> int:
        return self.num_images

    def read(self, span: Span) -> Iterator[Cell]:
        """Read the images of a span.

        Raises:
            ProcessStoppedError: They can't be read, or there are fewer than were counted.
        """
        shard = self.rows.shard(self.num_shards, span.shard).skip(span.first)
        number = 0
        try:
            for row in islice(shard, span.number):
                cell = row[self.column]
                if isinstance(cell, pa.ChunkedArray):
                    cell = cell.take([0])  # a copy: a slice would keep, and send, its whole batch
                origin = origin_of(row) or f"shard {span.shard} row {span.first + number}"
                yield Cell(cell, place_of(cell, origin))
                number += 1
        except Exception as error:  # from any file system, file format or user's function
            raise ProcessStoppedError(
                f"shard {span.shard} of data.path can't be read after row {span.first + number} "
                f"({first_line(error)}); --resume auto resumes from the last checkpoint"
            ) from error
        if span.number is not None and number < span.number:
            raise ProcessStoppedError(
                f"shard {span.shard} of data.path has {span.first + number} rows, fewer than were "
                "counted when the run began; has it changed?"
            )

    def hold_out(self, number: int, seed: int) -> list[Cell]:
        """Take the first rows of some shards out of the stream.

        Args:
            number: How many rows to take in all.
            seed: Seed of the choice of shards.

        Raises:
            ValueError: These shards are empty.
        """
        order = np.random.default_rng([seed, 1]).permutation(self.num_shards)
        shards = order[:MAX_HELD_OUT_SHARDS].tolist()
        cells: list[Cell] = []
        for index, shard in enumerate(shards):
            rows = -(-(number - len(cells)) // (len(shards) - index))
            length = self.lengths[shard]
            taken = list(islice(self.read(Span(shard=shard, first=0, number=None)), rows))
            self.left_out[shard] = len(taken)
            self.lengths[shard] = None if length is None else length - len(taken)
            cells += taken
        if not cells:
            raise ValueError("data.path must hold images, got a stream without any to hold out")
        self.num_images -= len(cells)
        return cells

    def plan(self, divisor: int, seed: int) -> ShardPlan:
        """Plan how rows are dealt out to lanes.

        Args:
            divisor: A number that divides the samples of every step; the lanes divide it in turn.
            seed: Seed of the order of the shards.
        """
        most = min(divisor, self.num_shards, MAX_LANES)
        lanes = max(n for n in range(1, most + 1) if divisor % n == 0)
        return ShardPlan(self.lengths, self.left_out, lanes, seed)


class HeldOutImages:
    """Images of a stream that are kept in memory, pickled into one tensor, which workers share.

    Args:
        cells: The images.
        in_chans: Channels of the model.
    """

    def __init__(self, cells: Sequence[Cell], in_chans: int) -> None:
        self.in_chans = in_chans
        pickled = [pickle.dumps(cell) for cell in cells]
        self.bounds = [0, *accumulate(map(len, pickled))]
        self.bytes = torch.frombuffer(bytearray().join(pickled), dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, index: int) -> AnyImage:
        cell = self._cell(index)
        return open_image(cell.value, self.in_chans, cell.name)

    def name(self, index: int) -> str:
        """Return the file of an image, or its shard and row."""
        return self._cell(index).name

    def _cell(self, index: int) -> Cell:
        start, stop = self.bounds[index : index + 2]
        cell: Cell = pickle.loads(self.bytes[start:stop].numpy().tobytes())
        return cell


def count_rows(files: Sequence[str]) -> list[int | None]:
    """Count the rows of each file; None for one that is neither Parquet nor a plain local tar file.

    Raises:
        ValueError: A file is broken.
    """
    with ThreadPoolExecutor(max_workers=16) as pool:
        return list(pool.map(_count, files))


def _count(file: str) -> int | None:
    if file.lower().endswith(ENDINGS["parquet"]):
        return tables.count_rows(file)
    if file.lower().endswith(ENDINGS["webdataset"]) and "://" not in file:
        return count_samples(file)
    return None
