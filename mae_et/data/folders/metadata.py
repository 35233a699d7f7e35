"""Further columns of images, from files called metadata.csv, .jsonl or .parquet.

Each row of such a file names an image by its path relative to the file, in a column "file_name", as
in https://huggingface.co/docs/datasets/image_dataset#imagefolder.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from ...errors import first_line


def _read_csv(path: Path) -> pa.Table:
    """Read a table of texts and numbers; PyArrow would also find dates, which label nothing.

    An empty cell, or NA, is no text, but null: it would be a class of its own.
    """
    with pyarrow.csv.open_csv(path) as opened:
        names = opened.schema.names
    texts = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True
    )
    table = pyarrow.csv.read_csv(path, convert_options=texts)
    return pa.table([_numbers(column) for column in table.columns], names=table.column_names)


def _numbers(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the numbers that texts are; the texts if any is none, or an identifier like 007."""
    has_identifiers = pc.any(pc.match_substring_regex(texts, r"^[+-]?0\d"))
    if texts.null_count == len(texts) or has_identifiers.as_py():
        return texts
    for kind in (pa.int64(), pa.float64()):
        try:
            return texts.cast(kind)
        except pa.ArrowInvalid:
            continue
    return texts


def _read_jsonl(path: Path) -> pa.Table:
    """Read a table; texts that PyArrow takes for dates stay texts."""
    table = pyarrow.json.read_json(path)
    dates = [field.name for field in table.schema if pa.types.is_temporal(field.type)]
    schema = pa.schema([(name, pa.string()) for name in dates])
    options = pyarrow.json.ParseOptions(explicit_schema=schema)
    return pyarrow.json.read_json(path, parse_options=options) if dates else table


READERS: dict[str, Callable[[Path], pa.Table]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": pyarrow.parquet.read_table,
}


def read_metadata(root: Path, files: list[str]) -> pa.Table | None:
    """Read the metadata of a folder of images.

    Args:
        root: The folder.
        files: Its metadata files, relative to it.

    Returns:
        The rows of all files, their "file_name" relative to the root; None if there is no file.

    Raises:
        ValueError: A file cannot be read, there are two in one folder, or an image is listed twice.
    """
    folders = Counter(map(posixpath.dirname, files))
    for folder, number in folders.items():
        if number > 1:
            names = " and ".join(
                sorted(file for file in files if posixpath.dirname(file) == folder)
            )
            raise ValueError(f"data.path must have one metadata file a folder, got {names}")
    if not files:
        return None
    tables = [_read(root, file) for file in sorted(files)]
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"data.path must have metadata files of the same columns, got {', '.join(files)} "
            f"({first_line(error)})"
        ) from error
    name, number = Counter(table["file_name"].to_pylist()).most_common(1)[0]
    if number > 1:
        raise ValueError(
            f"data.path must have one row of metadata per image, got {name!r} {number} times"
        )
    return table


def _read(root: Path, file: str) -> pa.Table:
    """Read one file; its "file_name" becomes relative to the root."""
    try:
        table = READERS[posixpath.splitext(file)[1]](root / file)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise ValueError(
            f"data.path must have readable metadata, got {file!r} ({first_line(error)})"
        ) from error
    names = table["file_name"] if "file_name" in table.column_names else None
    if names is None or not pa.types.is_string(names.type) or not len(table):
        raise ValueError(
            f"data.path must have metadata with a column file_name of texts, got {file!r} with "
            f"{', '.join(table.column_names) or 'no columns'}"
        )
    if "image" in table.column_names:
        raise ValueError(f"data.path must have metadata without a column image, got {file!r}")
    folder = posixpath.dirname(file)
    paths = [
        name and posixpath.normpath(posixpath.join(folder, name)) for name in names.to_pylist()
    ]
    return table.set_column(table.column_names.index("file_name"), "file_name", pa.array(paths))
