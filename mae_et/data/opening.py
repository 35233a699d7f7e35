"""The images of a run, by its configuration: those it learns from, and those it is measured on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..checks import errors_of
from ..data_config import DataConfig
from .images import ImageTable
from .mixture import Mixture
from .sharded import HeldOutImages, ShardedImages
from .sources import (
    Stream,
    eval_split_name,
    load_splits,
    open_splits,
    open_streams,
    select_held_out,
    take_split,
    train_and_eval_splits,
)
from .stream import Images


def open_images(
    source: DataConfig, in_chans: int, seed: int
) -> tuple[Images | ShardedImages, Images]:
    """The training images, and held-out images to evaluate on; see `DataConfig.eval_split`.

    Raises:
        ValueError: a data set, a split, a column or images are missing.
    """
    if source.sources:
        return _open_mixture(source, in_chans, seed)
    assert source.path is not None
    splits, files = (
        open_streams(source.path) if source.streaming else (open_splits(source.path), {})
    )
    if isinstance(take_split(splits, source.split, "data.split"), Stream):
        return _open_stream(source, splits, files, in_chans, seed)
    train, held_out = (
        ImageTable(rows, source.image_column, in_chans)
        for rows in train_and_eval_splits(
            splits, source.split, source.eval_split, source.eval_images, seed
        )
    )
    return train, held_out


def _open_mixture(source: DataConfig, in_chans: int, seed: int) -> tuple[Images, Images]:
    weights = [part.weight for part in source.sources if part.weight is not None]
    tables = []
    for part in source.sources:
        share = part.weight / sum(weights) if part.weight is not None else 1 / len(source.sources)
        number = max(1, round(source.eval_images * share))
        with errors_of("data.sources"):
            rows = train_and_eval_splits(
                load_splits(part.path), part.split, part.eval_split, number, seed
            )
            tables.append([ImageTable(table, part.image_column, in_chans) for table in rows])
    train, held_out = zip(*tables, strict=True)
    return Mixture(train, weights or None), Mixture(held_out)


def _open_stream(
    source: DataConfig,
    splits: Mapping[str, Any],
    files: Mapping[str, list[str]],
    in_chans: int,
    seed: int,
) -> tuple[ShardedImages, Images]:
    column, number = source.image_column, source.eval_images
    train = ShardedImages(
        splits[source.split], column, in_chans, files.get(source.split, ()), source.num_images
    )
    name = eval_split_name(splits, source.split, source.eval_split)
    if name is None:
        cells = train.hold_out(min(number, max(1, len(train) // 10)), seed)
        return train, HeldOutImages(cells, in_chans)
    rows = take_split(splits, name, "data.eval_split")
    if isinstance(rows, Stream):
        cells = ShardedImages(rows, column, in_chans, num_images=number).hold_out(number, seed)
        return train, HeldOutImages(cells, in_chans)
    return train, ImageTable(select_held_out(rows, number, seed), column, in_chans)
