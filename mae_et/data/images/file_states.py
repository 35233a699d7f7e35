"""The files that a data set names without holding their bytes, and whether they have changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import datasets
import pyarrow as pa

from .table import is_picture

NUM_THREADS = 16
"""Files that are looked at a time: on a network, each takes a while."""


class FileState(NamedTuple):
    """What tells whether a file has changed, without reading it."""

    path: str
    """Where it is."""
    size: int
    """Bytes; -1 if there is no such file."""
    time: int
    """When it was written, in ns; -1 if there is no such file."""


def file_states(dataset: datasets.Dataset, column: str) -> list[FileState]:
    """Return the state of each file that a column of images names without bytes, in order.

    Those are all files of the data set's table, also of rows that are not selected.

    Args:
        dataset: A data set.
        column: Its column of images.
    """
    if not is_picture(dataset.features[column]):
        return []
    files: list[str] = []
    for chunk in dataset.data.column(column).chunks:
        cells = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
        names = [field.name for field in cells.type]
        paths = cells.field("path") if "path" in names else pa.nulls(len(cells))
        outside = paths.filter(cells.field("bytes").is_null())
        files += filter(None, outside.to_pylist())  # "" where the whole cell is null
    length = -(-len(files) // NUM_THREADS) or 1
    parts = [files[start : start + length] for start in range(0, len(files), length)]
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return [state for states in pool.map(_states, parts) for state in states]


def _states(files: Sequence[str]) -> list[FileState]:
    states = []
    for file in files:
        try:
            status = os.stat(file)  # noqa: PTH116  # a Path for each takes longer
        except OSError:
            states.append(FileState(file, -1, -1))
        else:
            states.append(FileState(file, status.st_size, status.st_mtime_ns))
    return states
