"""Write shards: Parquet files and WebDataset tar files. The same images give the same bytes."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow as pa
import pyarrow.parquet

from .columns import TarFields

GROUP_BYTES, GROUP_ROWS = 16 << 20, 1000
"""About how many bytes of images, and how many rows at most, a row group of a Parquet file has."""

PAGE_ROWS = 8
"""Rows after which a page of a Parquet file may end: streams read page by page."""


class Kept(NamedTuple):
    """An image to be stored."""

    row: int
    """Its row in the split."""
    name: str | None
    """Its file's name, relative to the data set."""
    content: bytes
    ending: str


class ParquetShard:
    """A Parquet file with a column of images and the further columns.

    Args:
        file: The file to write.
        image: The name of the column of images.
        features: The further columns.
    """

    def __init__(self, file: Path, image: str, features: datasets.Features) -> None:
        whole = datasets.Features({image: datasets.Image(), **features})
        nothing: dict[str, list[Any]] = {name: [] for name in whole}
        self.schema = datasets.Dataset.from_dict(nothing, features=whole).data.schema
        self.file, self.image = file.open("wb"), image
        self.writer = pa.parquet.ParquetWriter(
            self.file,
            self.schema,
            compression="none",  # images are compressed already
            use_dictionary=False,
            write_statistics=False,
            write_batch_size=PAGE_ROWS,
        )
        self._group: list[pa.Table] = []
        self._rows = self._bytes = 0

    def add(self, images: Sequence[Kept], rows: pa.Table) -> None:
        """Add images, with the rows of their further columns."""
        cells = pa.array(
            [{"bytes": kept.content, "path": kept.name} for kept in images],
            self.schema.field(self.image).type,
        )
        columns = {self.image: cells} | {name: rows[name] for name in rows.column_names}
        empty = [name for name in self.schema.names if name not in columns]  # of other splits
        columns |= {name: pa.nulls(len(images), self.schema.field(name).type) for name in empty}
        ordered = [columns[name] for name in self.schema.names]
        self._group.append(pa.Table.from_arrays(ordered, schema=self.schema))
        self._rows += len(images)
        self._bytes += sum(len(kept.content) for kept in images)
        if self._rows >= GROUP_ROWS - PAGE_ROWS or self._bytes >= GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        if self._group:
            self.writer.write_table(pa.concat_tables(self._group), row_group_size=GROUP_ROWS)
        self._group, self._rows, self._bytes = [], 0, 0

    def close(self) -> int:
        """End the file, have it on the disk, and return its size."""
        self._write_group()
        self.writer.close()
        return _end(self.file)

    def abandon(self) -> None:
        """Close the file as it is, which may be on a full disk."""
        self.writer.is_open = False  # else it would write the file's end when it is deleted
        _abandon(self.file)


class TarShard:
    """A WebDataset tar file: of each image its file, and the members of `TarFields`.

    Args:
        file: The file to write.
        fields: What becomes of the further columns.
    """

    def __init__(self, file: Path, fields: TarFields) -> None:
        self.file, self.fields = file.open("wb"), fields
        self.archive = tarfile.TarFile(fileobj=self.file, mode="w", format=tarfile.USTAR_FORMAT)

    def add(self, images: Sequence[Kept], rows: pa.Table) -> None:
        """Add images, with the rows of their further columns."""
        for kept, row in zip(images, rows.to_pylist() or [{}] * len(images), strict=True):
            members = {kept.ending[1:]: kept.content, **self.fields.members(row, kept.name)}
            for field, content in members.items():
                header = tarfile.TarInfo(f"{kept.row:09d}.{field}")
                header.size = len(content)
                self.archive.addfile(header, io.BytesIO(content))

    def close(self) -> int:
        """End the file, have it on the disk, and return its size."""
        self.archive.close()
        return _end(self.file)

    def abandon(self) -> None:
        """Close the file as it is, which may be on a full disk."""
        _abandon(self.file)


def _abandon(file: Any) -> None:
    with suppress(OSError):  # of writing what is buffered; the file is closed all the same
        file.close()


def _end(file: Any) -> int:
    file.flush()
    os.fsync(file.fileno())
    size: int = file.tell()
    file.close()
    return size
