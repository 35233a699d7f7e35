"""How many rows the files of a stream have, as far as that can be told without reading them."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

import fsspec
import pyarrow.parquet
from datasets.packaged_modules.webdataset.webdataset import base_plus_ext


def count_rows(files: Sequence[str]) -> list[int | None]:
    """Rows of each file; None for those of other kinds than Parquet and local tar files."""
    with ThreadPoolExecutor(max_workers=16) as pool:
        return list(pool.map(_count, files))


def _count(file: str) -> int | None:
    if file.endswith(".parquet"):
        with fsspec.open(file, "rb") as opened:  # of a remote file only the end is read
            rows: int = pyarrow.parquet.ParquetFile(opened).metadata.num_rows
            return rows
    if file.endswith(".tar") and "://" not in file:
        return _count_tar(file)
    return None


def _count_tar(file: str) -> int:
    """Samples of a WebDataset shard as `datasets` reads it: members in a row with the same stem."""
    rows, last = 0, None
    with tarfile.open(file) as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # it would grow
            hidden = PurePosixPath(member.name).name.startswith((".", "__"))
            stem, _ = base_plus_ext(member.name)
            if member.isreg() and not hidden and stem is not None and stem != last:
                rows, last = rows + 1, stem
    return rows
