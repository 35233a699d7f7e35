"""The splits of a data set: which rows a run trains on, and which it holds out for evaluation."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import datasets
import numpy as np

from .folders.layout import SPLIT_NAMES
from .found import without_bars
from .scratch import scratch_file

log = logging.getLogger(__name__)


def tell_split_columns(splits: Mapping[str, Any]) -> None:
    """Warn of columns that name splits, as rows are of the split that they were opened as.

    Args:
        splits: The splits of a data set; of streams, nothing is read.
    """
    for split, rows in splits.items():
        if not isinstance(rows, datasets.Dataset) or not len(rows):
            continue
        texts = [
            name
            for name, kind in rows.features.items()
            if isinstance(kind, datasets.Value) and "string" in kind.dtype
        ]
        firsts = rows.select_columns(texts)[0] if texts else {}
        for name in [name for name, text in firsts.items() if _names_split(text)]:
            column = rows.select_columns([name]).with_format("arrow")[:][name]
            values = set(column.unique().to_pylist()) - {None, ""}
            if all(map(_names_split, values)) and len({SPLIT_NAMES[v.lower()] for v in values}) > 1:
                log.warning(
                    "the column %r says %s, while all rows are taken for %r: a folder or file for "
                    "each would make them splits, or a function that filters them (python:)",
                    name,
                    ", ".join(sorted(values)),
                    split,
                )


def _names_split(text: str | None) -> bool:
    return text is not None and text.lower() in SPLIT_NAMES


def take_split(splits: Mapping[str, Any], name: str, field: str) -> Any:
    """Return a split by name.

    Args:
        splits: The splits of a data set.
        name: The name of the one to return.
        field: The configuration field that messages name.

    Raises:
        ValueError: There is no such split.
    """
    if name not in splits:
        raise ValueError(f"{field} must be one of {', '.join(splits)}, got {name!r}")
    return splits[name]


def eval_split_name(splits: Iterable[str], split: str, eval_split: str | None) -> str | None:
    """Choose the split to evaluate on.

    Args:
        splits: The names of the splits of a data set.
        split: The training split.
        eval_split: The split to evaluate on; None for the first of "validation", "val" and "test"
            that there is.

    Returns:
        The name of the split; None if there is none.

    Raises:
        ValueError: The split asked for is the training split.
    """
    if eval_split == split:
        raise ValueError(f"data.eval_split must not be the training split, got {eval_split!r}")
    usual = (name for name in ("validation", "val", "test") if name in splits and name != split)
    return eval_split or next(usual, None)


def train_and_eval_splits(
    splits: Mapping[str, Any], split: str, eval_split: str | None, eval_images: int, seed: int
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Select training rows, and held-out rows to evaluate on; see `DataConfig.eval_split`.

    Args:
        splits: The splits of a data set.
        split: The training split.
        eval_split: The split to evaluate on; None to choose one, or else to hold out some of the
            training split, at most a tenth.
        eval_images: The most rows to hold out.
        seed: Seed of the choice.

    Raises:
        ValueError: There is no such split, or it has too few rows to hold any out.
    """
    train = take_split(splits, split, "data.split")
    name = eval_split_name(splits, split, eval_split)
    if name is not None:
        held_out = take_split(splits, name, "data.eval_split")
        return train, select_held_out(held_out, eval_images, seed)
    if len(train) < 2:
        raise ValueError(f"data.path must hold at least 2 images to hold one out, got {len(train)}")
    order = np.random.default_rng([seed, 1]).permutation(len(train))
    number = min(eval_images, max(1, len(train) // 10))
    return _select(train, np.sort(order[number:])), select_alone(train, order[:number])


def select_held_out(rows: datasets.Dataset, number: int, seed: int) -> datasets.Dataset:
    """Select at most `number` rows at random, in ascending order.

    Args:
        rows: A split of a data set.
        number: The most rows to select.
        seed: Seed of the choice.
    """
    order = np.random.default_rng([seed, 1]).permutation(len(rows))
    return select_alone(rows, order[:number])


def select_alone(rows: datasets.Dataset, indices: Any) -> datasets.Dataset:
    """Select some of the rows, in ascending order.

    Rows in memory are copied, so that workers are not sent the others, too.

    Args:
        rows: A split of a data set.
        indices: Numbers of the rows to select.
    """
    selected = _select(rows, np.sort(indices))
    with without_bars():
        return selected if rows.cache_files else selected.flatten_indices(keep_in_memory=True)


def _select(rows: datasets.Dataset, indices: Any) -> datasets.Dataset:
    """Select some of the rows; workers map their numbers into memory, as they do the rows."""
    file = str(scratch_file("indices.arrow")) if rows.cache_files else None
    return rows.select(indices, indices_cache_file_name=file)
