"""Encoded images as Parquet files, as data sets of the Hub have them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count, islice
from pathlib import Path

import datasets

SHARD = 20_000
"""The images of a file."""


def write_shards(folder: Path, pictures: Iterable[bytes]) -> None:
    """Write encoded images to train-00000.parquet and so on."""
    features, rest = datasets.Features({"image": datasets.Image()}), iter(pictures)
    for number in count():
        rows = [{"bytes": picture, "path": None} for picture in islice(rest, SHARD)]
        if not rows:
            return
        table = datasets.Dataset.from_dict({"image": rows}, features=features)
        table.to_parquet(folder / f"train-{number:05d}.parquet")
