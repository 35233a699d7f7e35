"""Data sets by name: their splits, and the images of a run."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import datasets

from ..config import DataConfig, import_callable
from ..errors import check, errors_of, first_line, say_once
from .folders import open_folder
from .found import describe_counts, without_bars
from .images import ImageTable
from .mixture import Mixture
from .paths import hub_location, parse_path
from .problems import problem_of
from .samples import Images
from .splits import (
    eval_split_name,
    select_held_out,
    take_split,
    tell_split_columns,
    train_and_eval_splits,
)
from .streaming.shards import HeldOutImages, StreamedImages
from .tables import expand_braces, is_table, open_table, small_batches, stream_table

Stream = datasets.IterableDataset

STREAMABLE = ("hub", "parquet", "webdataset")
"""Kinds of paths that `data.streaming` can read."""

own_modules: set[str] = set()
"""The user's modules that `python:` paths name. Workers import them, too, since a module may
register an image format."""


def load_splits(path: str, layout: str = "auto") -> dict[str, datasets.Dataset]:
    """Open the splits of a data set of random access, by name.

    Args:
        path: A path as in `data.path`.
        layout: The layout of a folder of images, as in `data.layout`.

    Raises:
        ValueError: The path is of no known kind, does not exist, holds no images, or is a stream.
    """
    splits = open_splits(path, layout)
    streams = [name for name, split in splits.items() if isinstance(split, Stream)]
    if streams:
        raise ValueError(
            f"data.path must give data sets of random access here, got {path!r} with the stream "
            f"{streams[0]!r}"
        )
    return splits


def open_splits(path: str, layout: str = "auto") -> dict[str, Any]:
    """Open the splits of a data set, by name; those from a user's function may be streams.

    Args:
        path: A path as in `data.path`.
        layout: The layout of a folder of images, as in `data.layout`.

    Raises:
        ValueError: The path is of no known kind, does not exist, or holds no images.
    """
    kind, location = parse_path(path)
    if kind == "imagefolder":
        folder = open_folder(Path(location), layout)
        tell_split_columns(folder)
        return dict(folder)
    check(layout == "auto", "data.layout", layout, "auto for data that are no folder of images")
    own = None
    if kind == "python":
        own = import_callable(location, "data.path")
        own_modules.add(location.partition(":")[0])
    try:
        with nullcontext() if kind == "hub" else without_bars():  # a download takes a while
            if own is not None:
                splits = own()
            elif kind == "disk":
                splits = datasets.load_from_disk(location)
            elif is_table(kind, location):
                splits = open_table(kind, location)
            else:
                splits = datasets.load_dataset(**_arguments(kind, location))
    except Exception as error:  # these libraries, and users' functions, raise many kinds of errors
        problem = problem_of(error)
        if kind == "hub" and not path.startswith("hub:"):
            problem = f"is no folder here, and no data set of the Hub: {first_line(error)}"
        if own is not None:
            problem = f"is a function that raised {type(error).__name__}: {first_line(error)}"
        raise ValueError(f"data.path {path!r} {problem}") from error
    if isinstance(splits, datasets.Dataset | Stream):
        splits = {"train": splits}
    if not isinstance(splits, Mapping) or not all(
        isinstance(s, datasets.Dataset | Stream) for s in splits.values()
    ):
        raise ValueError(
            f"data.path {path!r} must give a Dataset or IterableDataset of `datasets`, or a dict "
            f"of them by split, got {type(splits).__name__}"
        )
    if any(
        isinstance(s, datasets.Dataset) and s.format["type"] == "custom" for s in splits.values()
    ):
        raise ValueError(
            f"data.path {path!r} must give images that no function of set_transform or "
            "with_transform changes when they are read (map changes them once)"
        )
    if not any(isinstance(split, Stream) or len(split) for split in splits.values()):
        raise ValueError(f"data.path must hold images, got {path!r} with none")
    tell_split_columns(splits)
    _say_found(path, splits)
    return {name: _named(rows, name) for name, rows in splits.items()}


def _say_found(path: str, splits: Mapping[str, Any]) -> None:
    """Say in one line what a data set holds, as far as it is known."""
    tables = {name: rows for name, rows in splits.items() if isinstance(rows, datasets.Dataset)}
    kinds = [kind for rows in tables.values() for kind in rows.features.values()]
    classes = {len(kind.names) for kind in kinds if isinstance(kind, datasets.ClassLabel)}
    if tables:
        counts = {name: len(rows) for name, rows in tables.items()}
        say_once(f"{path}: {describe_counts(counts, *(classes if len(classes) == 1 else ()))}")


def _named(rows: Any, split: str) -> Any:
    """Return rows that know the name of their split, by which their images are named."""
    if isinstance(rows, datasets.Dataset) and rows.split != split:
        rows = copy.copy(rows)  # which may be the user's
        rows._split = split
    return rows


def open_streams(path: str) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Open the splits of a data set as streams.

    Args:
        path: A path as in `data.path`.

    Returns:
        The streams by split, and the files of each split as far as they are known.

    Raises:
        ValueError: The path is of a kind that can't be streamed, or can't be opened.
    """
    kind, location = parse_path(path)
    if kind not in STREAMABLE:
        raise ValueError(
            f"data.streaming needs a data.path of hub, parquet or webdataset, got {path!r}, whose "
            "images are read in place without it"
        )
    try:
        if is_table(kind, location):
            return stream_table(kind, location)
        builder = datasets.load_dataset_builder(**_arguments(kind, location))
        small_batches(builder)
        splits = builder.as_streaming_dataset()
    except Exception as error:  # as above
        raise ValueError(f"data.path {path!r} {problem_of(error)}") from error
    files = builder.config.data_files or {}
    return dict(splits), {str(name): list(map(str, names)) for name, names in files.items()}


def _arguments(kind: str, location: str) -> dict[str, Any]:
    """The arguments of `datasets.load_dataset` for a path."""
    if kind == "hub":
        name, config, revision = hub_location(location)
        return {"path": name, "name": config, "revision": revision}
    if Path(location).is_dir():
        return {"path": kind, "data_dir": location}
    return {"path": kind, "data_files": expand_braces(location)}


def open_images(
    source: DataConfig, in_chans: int, seed: int
) -> tuple[Images | StreamedImages, Images]:
    """Open the training images, and held-out images to evaluate on; see `DataConfig.eval_split`.

    Args:
        source: The data of a run.
        in_chans: Channels of the model.
        seed: Seed of the choice of held-out images.

    Raises:
        ValueError: A data set, a split, a column or images are missing.
    """
    if source.sources:
        return _open_mixture(source, in_chans, seed)
    assert source.path is not None
    splits, files = (
        open_streams(source.path)
        if source.streaming
        else (open_splits(source.path, source.layout), {})
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
                load_splits(part.path, part.layout), part.split, part.eval_split, number, seed
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
) -> tuple[StreamedImages, Images]:
    column, number = source.image_column, source.eval_images
    train = StreamedImages(
        splits[source.split], column, in_chans, files.get(source.split, ()), source.num_images
    )
    name = eval_split_name(splits, source.split, source.eval_split)
    if name is None:
        cells = train.hold_out(min(number, max(1, len(train) // 10)), seed)
        return train, HeldOutImages(cells, in_chans)
    rows = take_split(splits, name, "data.eval_split")
    if isinstance(rows, Stream):
        cells = StreamedImages(rows, column, in_chans, num_images=number).hold_out(number, seed)
        return train, HeldOutImages(cells, in_chans)
    return train, ImageTable(select_held_out(rows, number, seed), column, in_chans)
