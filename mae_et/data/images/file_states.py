"""The files that a data set names without holding their bytes, and whether they have changed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple

import datasets
import pyarrow as pa

from .table import is_picture

NUM_THREADS = 16
"""Files that are looked at a time where each takes a while, as on a network."""

SLOW = 5e-4
"""Seconds a file from which on threads help; below, they only wait for each other."""


class FileState(NamedTuple):
    """What tells whether a file has changed, without reading it."""

    path: str
    """Where it is."""
    size: int
    """Bytes; -1 if there is no such file."""
    time: int
    """When it was written, in ns; -1 if there is no such file."""
    changed: int
    """When its bytes, its name or its rights were last changed, in ns, which nobody can set; -1
    likewise."""
    number: int
    """Its number in the file system, which another file in its place has not; -1 likewise."""


def file_states(dataset: datasets.Dataset, column: str) -> Iterator[FileState]:
    """Yield the state of each file that a column of images names without bytes, in order.

    Those are all files of the data set's table, also of rows that are not selected.

    Args:
        dataset: A data set.
        column: Its column of images.
    """
    chunks = dataset.data.column(column).chunks if is_picture(dataset.features[column]) else []
    threads = 1
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for chunk in chunks:
            files = _files_of(chunk)
            length = -(-len(files) // threads) or 1
            parts = [files[start : start + length] for start in range(0, len(files), length)]
            began = time.perf_counter()
            states = list(chain.from_iterable(pool.map(_states, parts)))
            if time.perf_counter() - began > SLOW * len(files):
                threads = NUM_THREADS
            yield from states


def _files_of(chunk: pa.Array) -> list[str]:
    """Return the paths of the cells that have no bytes."""
    cells = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
    if "path" not in [field.name for field in cells.type]:
        return []
    outside = cells.field("path").filter(cells.field("bytes").is_null())
    return [path for path in outside.to_pylist() if path]  # none where the whole cell is null


def _states(files: Sequence[str]) -> list[FileState]:
    states = []
    for file in files:
        try:
            status = os.stat(file)  # noqa: PTH116  # a Path for each takes longer
        except OSError:
            states.append(FileState(file, -1, -1, -1, -1))
        else:
            times = status.st_mtime_ns, status.st_ctime_ns
            states.append(FileState(file, status.st_size, *times, status.st_ino))
    return states
