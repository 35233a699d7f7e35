"""Data sets as a user would write them, for `data.path` of the kind python."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
from PIL import Image


def numbered_rows(shards: list[int]) -> Iterator[dict[str, Any]]:
    for shard in shards:
        for row in range(20):
            pixels = np.full((16, 16), 20 * shard + row, np.uint8)
            yield {"picture": Image.fromarray(pixels)}


def own_stream() -> datasets.IterableDataset:
    """A stream of the user's, for a path of the kind python."""
    return datasets.IterableDataset.from_generator(
        numbered_rows,
        gen_kwargs={"shards": [0, 1, 2, 3]},
        features=datasets.Features({"picture": datasets.Image()}),
    )


def own_streams() -> dict[str, Any]:
    """With a map that can't be pickled and gives decoded images, and a split to evaluate on."""
    return {
        "train": own_stream().map(lambda row: row, features=own_stream().features),
        "test": own_stream().take(7),
    }


def empty() -> datasets.IterableDataset:
    return own_stream().take(0)


def transformed() -> datasets.Dataset:
    return datasets.Dataset.from_dict({"image": [None]}).with_transform(lambda rows: rows)


def failing() -> datasets.Dataset:
    raise KeyError("no such table")


def featureless() -> datasets.IterableDataset:
    return datasets.IterableDataset.from_generator(numbered_rows, gen_kwargs={"shards": [0]})


def failing_rows(shards: list[int]) -> Iterator[dict[str, Any]]:
    for row in numbered_rows(shards):
        yield row
        if shards == [FAILING_SHARD] and row["picture"].getpixel((0, 0)) % 20 == 15:
            raise ConnectionError("the server has gone away")


FAILING_SHARD = 0
"""It is in the second of two lanes in the first epoch."""


def failing_stream() -> datasets.IterableDataset:
    return datasets.IterableDataset.from_generator(
        failing_rows,
        gen_kwargs={"shards": [0, 1]},
        features=datasets.Features({"picture": datasets.Image()}),
    )


def images_of_the_first_machine() -> datasets.Dataset:
    if os.environ["RANK"] != "0":
        raise OSError("no such disk")
    images = {"image": [Image.new("L", (16, 16))] * 20}
    return datasets.Dataset.from_dict(images, datasets.Features({"image": datasets.Image()}))
