"""Parquet files as a table: read in small batches of rows, each of which knows where it is from."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pyarrow as pa
import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet
from datasets.table import table_cast

from ...errors import first_line
from ..images import ORIGIN, TEXTS, holds_images, is_picture
from .files import short_names

log = logging.getLogger(__name__)

BATCH_BYTES = 1 << 20
"""About how many bytes of rows are decoded at a time."""

MAX_BATCH_ROWS = 1000
"""The most rows of a batch, as `datasets` writes them."""


class ParquetTable(datasets.ArrowBasedBuilder):  # type: ignore[misc]
    """Reads Parquet files for `datasets`.

    The builder of `datasets` holds whole row groups in memory and does not tell which file is
    broken. This one reads pages, adds the column `ORIGIN` with the file and row of each image, and
    takes a column of paths, relative to the file's folder, as images where there are no others.
    Class labels are those of the names, in whichever order a file has them.
    """

    VERSION = "1.1.0"
    """Copies in the cache of earlier versions are not used: they mixed the classes of files."""

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo()

    def _split_generators(self, dl_manager: Any) -> list[Any]:
        """Check all files, and find the features of the table.

        Raises:
            ValueError: A file is broken, or does not have the columns of the first one.
        """
        splits = {str(name): list(files) for name, files in self.config.data_files.items()}
        files = [file for of_split in splits.values() for file in of_split]
        with ThreadPoolExecutor(max_workers=16) as pool:
            metadata = list(pool.map(_metadata, files))
        schemas = [part.schema.to_arrow_schema() for part in metadata]
        rows = {file: part.num_rows for file, part in zip(files, metadata, strict=True)}
        for name, of_split in splits.items():
            if not any(rows[file] for file in of_split):
                raise ValueError(f"{of_split[0]} and the other files of {name} hold no rows")
        for file, schema in zip(files, schemas, strict=True):
            if set(schema.names) != set(schemas[0].names):
                differ = ", ".join(sorted(set(schema.names) ^ set(schemas[0].names)))
                raise ValueError(f"{file} and {files[0]} differ in the columns {differ}")
        own = [datasets.Features.from_arrow_schema(schema) for schema in schemas]
        features = own[0] | _common_labels(files, own)
        self.own_names = {
            file: names
            for file, of_file in zip(files, own, strict=True)
            if (names := _names_to_replace(of_file, features))
        }
        if not holds_images(features):
            features |= {name: datasets.Image() for name in _path_columns(files[0], features)}
        self.info.features = datasets.Features({**features, ORIGIN: datasets.Value("string")})
        short = dict(zip(files, short_names(files), strict=True))
        return [
            datasets.SplitGenerator(
                name=name, gen_kwargs={"files": [(file, short[file]) for file in of_split]}
            )
            for name, of_split in splits.items()
        ]

    def _generate_tables(self, files: Sequence[tuple[str, str]]) -> Iterator[tuple[Any, pa.Table]]:
        schema = self.info.features.arrow_schema
        for number, (file, name) in enumerate(files):
            row = 0
            for batch in read_batches(file):
                table = pa.Table.from_batches([batch])
                origins = [f"{name} row {row + index}" for index in range(len(table))]
                row += len(table)
                table = self._with_paths(table, Path(file).parent).append_column(
                    ORIGIN, pa.array(origins, pa.string())
                )
                with reading_file(file):
                    for label, names in self.own_names.get(file, {}).items():
                        table = _with_names(table, label, names, self.info.features[label])
                    table = table_cast(table.select(schema.names), schema)
                yield f"{number}_{row}", table

    def _with_paths(self, table: pa.Table, folder: Path) -> pa.Table:
        """Make images of paths, which are relative to a folder."""
        for name, feature in self.info.features.items():
            column = table.column(name) if is_picture(feature) else None
            if column is None:
                continue
            cells = column.combine_chunks()
            if _is_text(cells.type):
                fields = {"bytes": pa.nulls(len(cells), pa.binary()), "path": cells}
            else:
                fields = {field.name: cells.field(field.name) for field in cells.type}
            if "path" not in fields or not fields["bytes"].null_count:
                continue
            outside = fields["bytes"].is_null().to_pylist()
            paths = fields["path"].to_pylist()
            fields["path"] = pa.array(
                [
                    str(folder / path) if is_outside and path else path
                    for path, is_outside in zip(paths, outside, strict=True)
                ],
                pa.string(),
            )
            whole = pa.StructArray.from_arrays(
                list(fields.values()), list(fields), mask=cells.is_null()
            )
            table = table.set_column(table.schema.get_field_index(name), name, whole)
        return table


def read_batches(file: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Read the rows of a file of this machine, about `BATCH_BYTES` at a time.

    Pages are read as they are needed, in this thread: neither a whole row group is in memory, nor
    does a thread of Arrow outlive the reading.

    Args:
        file: The file.
        columns: The columns to read; None for all.

    Raises:
        ValueError: The file is broken.
    """
    with reading_file(file):
        opened = pa.parquet.ParquetFile(file, buffer_size=BATCH_BYTES, pre_buffer=False)
    with opened:
        batches = opened.iter_batches(
            batch_size=_batch_rows(opened.metadata), columns=columns, use_threads=False
        )
        while True:
            with reading_file(file):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


def _batch_rows(metadata: Any) -> int:
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    largest = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=1)
    return int(min(max(BATCH_BYTES // max(largest, 1), 1), MAX_BATCH_ROWS))


def small_batches(builder: Any) -> None:
    """Make a builder of `datasets` for Parquet read pages, too, rather than whole row groups."""
    if hasattr(builder.config, "fragment_scan_options"):
        builder.config.batch_size = builder.config.batch_size or 16
        builder.config.fragment_scan_options = pa.dataset.ParquetFragmentScanOptions(
            use_buffered_stream=True, buffer_size=BATCH_BYTES, pre_buffer=False
        )


def count_rows(file: str) -> int:
    """Count the rows of a file, of which only the end is read; it may be a URL.

    Raises:
        ValueError: The file is broken.
    """
    with reading_file(file), fsspec.open(file, "rb") as opened:
        rows: int = pa.parquet.ParquetFile(opened).metadata.num_rows
        return rows


def _metadata(file: str) -> Any:
    with reading_file(file):
        return pa.parquet.read_metadata(file)


def _common_labels(files: Sequence[str], features: Sequence[Any]) -> dict[str, Any]:
    """The features of those columns whose class numbers have names in some of the files.

    Each file numbers its classes in an order of its own, so that the names are what files have in
    common. Where other files hold texts, which are names, too, the column becomes one of texts.
    """
    common: dict[str, Any] = {}
    for label in features[0]:
        kinds = {file: own[label] for file, own in zip(files, features, strict=True)}
        named = [file for file in files if isinstance(kinds[file], datasets.ClassLabel)]
        others = [kinds[file] for file in files if file not in named]
        if not named:
            continue
        names = dict.fromkeys(name for file in named for name in kinds[file].names)
        common[label] = datasets.ClassLabel(names=list(names))
        if any(isinstance(kind, datasets.Value) and _is_text(kind.pa_type) for kind in others):
            common[label] = datasets.Value("string")
        elif others:
            log.warning(
                "the numbers in %r of %d files have no names of classes: taken for those of %s",
                label,
                len(others),
                named[0],
            )
    return common


def _names_to_replace(own: Any, common: Any) -> dict[str, list[str]]:
    """The class names of the columns of a file that are numbered in another way than in common."""
    return {
        label: kind.names
        for label, kind in own.items()
        if isinstance(kind, datasets.ClassLabel) and kind != common[label]
    }


def _with_names(table: pa.Table, label: str, names: Sequence[str], common: Any) -> pa.Table:
    """Replace the class numbers of a file by those of all files, or by names; -1 by null."""
    is_numbered = isinstance(common, datasets.ClassLabel)
    by_number = pa.array([common.names.index(name) for name in names] if is_numbered else names)
    numbers = table[label].combine_chunks()
    numbers = pa.compute.if_else(pa.compute.less(numbers, 0), None, numbers)
    column = by_number.take(numbers)
    return table.set_column(table.schema.get_field_index(label), label, column)


def _path_columns(file: str, features: Any) -> list[str]:
    """The columns of text whose first value is the path of a file."""
    texts = [
        name
        for name, feature in features.items()
        if isinstance(feature, datasets.Value) and _is_text(feature.pa_type)
    ]
    found = []
    for name in texts:
        values = (value for batch in read_batches(file, [name]) for value in batch.column(0))
        first = next((value.as_py() for value in values if value.is_valid), "")
        if len(first) < 4096 and "\0" not in first and (Path(file).parent / first).is_file():
            found.append(name)
    return found


def _is_text(kind: pa.DataType) -> bool:
    return kind in TEXTS


@contextmanager
def reading_file(file: str) -> Iterator[None]:
    """Name the file in any error in reading it.

    Args:
        file: The file.

    Raises:
        ValueError: It can't be read.
    """
    try:
        yield
    except Exception as error:  # Arrow raises its own, OSError, or anything on damaged metadata
        raise ValueError(f"{file} can't be read as Parquet: {first_line(error)}") from error
