"""Data sets by name: their splits, and which of them are trained on and held out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import datasets
import numpy as np

from ..config import PATH_KINDS, first_line


def load_splits(path: str) -> dict[str, datasets.Dataset]:
    """The splits of a data set, by name.

    Raises:
        ValueError: the path is of no known kind, does not exist, or holds no images.
    """
    kind, _, location = path.partition(":")
    if kind not in ("hub", "imagefolder", "parquet", "webdataset", "disk") or not location:
        raise ValueError(f"data.path must be {PATH_KINDS}, got {path!r}")
    is_pattern = kind in ("parquet", "webdataset") and any(sign in location for sign in "*?[")
    if kind != "hub" and not is_pattern and not Path(location).exists():
        raise ValueError(f"data.path must exist, got {path!r}")
    try:
        if kind == "hub":
            name, config, revision = hub_location(location)
            splits = datasets.load_dataset(name, config, revision=revision)
        elif kind == "disk":
            splits = datasets.load_from_disk(location)
        elif Path(location).is_dir():
            splits = datasets.load_dataset(kind, data_dir=location)
        else:
            splits = datasets.load_dataset(kind, data_files=location)
    except Exception as error:  # the libraries behind these raise many kinds
        raise ValueError(
            f"data.path {path!r} holds no data set of this kind: {first_line(error)}"
        ) from error
    if isinstance(splits, datasets.Dataset):
        splits = {"train": splits}
    if not any(len(split) for split in splits.values()):
        raise ValueError(f"data.path must hold images, got {path!r} with none")
    return dict(splits)


def hub_location(location: str) -> tuple[str, str | None, str | None]:
    """Name, configuration and revision of NAME[:CONFIG][@REVISION]; None for what is not given."""
    name_and_config, _, revision = location.partition("@")
    name, _, config = name_and_config.partition(":")
    return name, config or None, revision or None


def take_split(splits: dict[str, datasets.Dataset], name: str, field: str) -> datasets.Dataset:
    """A split by name.

    Raises:
        ValueError: there is no such split.
    """
    if name not in splits:
        raise ValueError(f"{field} must be one of {', '.join(splits)}, got {name!r}")
    return splits[name]


def eval_split_name(splits: Iterable[str], split: str, eval_split: str | None) -> str | None:
    """The split to evaluate on: the one asked for, or validation or test if there is one.

    Raises:
        ValueError: it is the training split.
    """
    if eval_split == split:
        raise ValueError(f"data.eval_split must not be the training split, got {eval_split!r}")
    usual = (name for name in ("validation", "val", "test") if name in splits and name != split)
    return eval_split or next(usual, None)


def train_and_eval_splits(
    path: str, split: str, eval_split: str | None, eval_images: int, seed: int
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """The training images, and held-out images to evaluate on; see `DataConfig.eval_split`."""
    splits = load_splits(path)
    train = take_split(splits, split, "data.split")
    name = eval_split_name(splits, split, eval_split)
    if name is not None:
        held_out = take_split(splits, name, "data.eval_split")
        order = np.random.default_rng([seed, 1]).permutation(len(held_out))
        return train, held_out.select(np.sort(order[:eval_images]))
    if len(train) < 2:
        raise ValueError(f"data.path must hold at least 2 images to hold one out, got {len(train)}")
    order = np.random.default_rng([seed, 1]).permutation(len(train))
    number = min(eval_images, max(1, len(train) // 10))
    return train.select(np.sort(order[number:])), train.select(np.sort(order[:number]))
