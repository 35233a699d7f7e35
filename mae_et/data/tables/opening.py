"""Open tables: by a copy in the cache of `datasets`, or as streams."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import datasets
from datasets.data_files import DataFilesDict, DataFilesList

from .files import find_files, signatures
from .parquet import ParquetTable
from .tars import TarTable

log = logging.getLogger(__name__)

BUILDERS = {"parquet": ParquetTable, "webdataset": TarTable}
"""Kinds of tables, and what reads them."""


def is_table(kind: str, location: str) -> bool:
    """Return whether a path is a table on this machine."""
    return kind in BUILDERS and "://" not in location


def open_table(kind: str, location: str) -> dict[str, Any]:
    """Open the splits of a table.

    Parquet and tar files allow no access to single rows, so they are copied, once, into the cache
    of `datasets`. The copy belongs to the files as they are: to their names, sizes, times and some
    of their content.

    Args:
        kind: parquet or webdataset.
        location: See `find_files`.

    Raises:
        ValueError: There are no such files, or they can't be read or copied.
    """
    files = find_files(kind, location)
    builder = _builder(kind, files)
    if not Path(builder.cache_dir).exists():
        size = sum(Path(file).stat().st_size for of_split in files.values() for file in of_split)
        cache = datasets.config.HF_DATASETS_CACHE
        log.warning("%s is copied once into %s: %.1f MiB", location, cache, size / 2**20)
    builder.download_and_prepare()
    return dict(builder.as_dataset())


def stream_table(kind: str, location: str) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Open the splits of a table as streams.

    Args:
        kind: parquet or webdataset.
        location: See `find_files`.

    Returns:
        The streams by split, and the files of each, which are its shards.

    Raises:
        ValueError: There are no such files, or they can't be read.
    """
    files = find_files(kind, location)
    return dict(_builder(kind, files).as_streaming_dataset()), files


def _builder(kind: str, files: dict[str, list[str]]) -> Any:
    known = {name: DataFilesList(names, signatures(names)) for name, names in files.items()}
    return BUILDERS[kind](data_files=DataFilesDict(known), dataset_name=kind)
