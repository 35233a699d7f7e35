"""Further columns of images, from files called metadata.csv, .jsonl or .parquet.

Each row of such a file names an image by its path relative to the file, in a column "file_name", as
in https://huggingface.co/docs/datasets/image_dataset#imagefolder.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from ...errors import first_line
from ..images import TEXTS

MOST_BYTES = 1 << 30
"""The most bytes of a file that are parsed at once."""


def _read_csv(path: Path) -> pa.Table:
    """Read a table of texts, of which `_numbers` are found when those of all files are known.

    An empty cell, or NA, is no text, but null: it would be a class of its own.
    """
    reading = pyarrow.csv.ReadOptions(block_size=_block_size(path))
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
    with pyarrow.csv.open_csv(path, reading, parsing) as opened:
        names = opened.schema.names
    texts = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True
    )
    table = pyarrow.csv.read_csv(path, reading, parsing, texts)
    return table.rename_columns([name.strip() for name in names])


def _block_size(path: Path) -> int:
    """Return the bytes to parse at once: the whole file, since a row must not be divided."""
    return min(max(path.stat().st_size, 1), MOST_BYTES)


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
    reading = pyarrow.json.ReadOptions(block_size=_block_size(path))
    table = pyarrow.json.read_json(path, reading)
    dates = [field.name for field in table.schema if pa.types.is_temporal(field.type)]
    schema = pa.schema([(name, pa.string()) for name in dates])
    options = pyarrow.json.ParseOptions(explicit_schema=schema)
    return pyarrow.json.read_json(path, reading, options) if dates else table


READERS: dict[str, Callable[[Path], pa.Table]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": pyarrow.parquet.read_table,
}


def read_metadata(root: Path, files: list[str], not_used: Counter[str]) -> pa.Table | None:
    """Read the metadata of a folder of images.

    Args:
        root: The folder.
        files: Its metadata files, relative to it.
        not_used: Counts the files and rows that are about no image.

    Returns:
        The rows of all files, their "file_name" relative to the root; None if there are none.

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
    read = {file: _read(root, file, not_used) for file in sorted(files)}
    tables = {file: table for file, table in read.items() if table is not None}
    if not tables:
        return None
    try:
        table = _join(tables)
    except pa.ArrowException as error:
        raise ValueError(
            f"data.path must have metadata files of the same columns, got {', '.join(tables)} "
            f"({first_line(error)})"
        ) from error
    name, number = Counter(table["file_name"].to_pylist()).most_common(1)[0]
    if number > 1:
        raise ValueError(
            f"data.path must have one row of metadata per image, got {name!r} {number} times"
        )
    return table


def _join(tables: dict[str, pa.Table]) -> pa.Table:
    """Join the tables of all files; what is a number in one CSV file may be a text in another."""
    texts = [table for file, table in tables.items() if file.endswith(".csv")]
    others = [table for file, table in tables.items() if not file.endswith(".csv")]
    if texts:
        table = pa.concat_tables(texts, promote_options="permissive")
        columns = {
            name: table[name] if name == "file_name" else _numbers(table[name])
            for name in table.column_names
        }
        others.insert(0, pa.table(columns))
    return pa.concat_tables(others, promote_options="permissive")


def _read(root: Path, file: str, not_used: Counter[str]) -> pa.Table | None:
    """Read one file; its "file_name" becomes relative to the root. None if it names no images."""
    path, folder = root / file, posixpath.dirname(file)
    try:
        table = READERS[path.suffix](path)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise ValueError(
            f"data.path must have readable metadata, got {file!r} ({first_line(error)})"
            f"{_what_is_wrong(path)}"
        ) from error
    columns = table.column_names
    if len(set(columns)) < len(columns):
        raise ValueError(f"data.path must have metadata of different columns, got {file!r}")
    if "file_name" not in columns and not _names_images(table, path.parent):
        not_used["metadata file without a column file_name"] += 1
        return None
    names = table["file_name"] if "file_name" in columns else pa.nulls(len(table))
    named = pc.not_equal(names, "") if names.type in TEXTS else pa.nulls(len(table), pa.bool_())
    if not pc.any(named).as_py():
        raise ValueError(
            f"data.path must have metadata with a column file_name of texts, got {file!r} with "
            f"{', '.join(columns) or 'no columns'}{_what_is_wrong(path)}"
        )
    if "image" in columns:
        raise ValueError(f"data.path must have metadata without a column image, got {file!r}")
    whole, table = len(table), table.filter(named)  # Excel adds rows of separators alone
    if len(table) < whole:
        not_used["row of metadata without a file_name"] += whole - len(table)
    paths = [
        posixpath.normpath(posixpath.join(folder, name)) for name in table["file_name"].to_pylist()
    ]
    return table.set_column(columns.index("file_name"), "file_name", pa.array(paths))


def _names_images(table: pa.Table, folder: Path) -> bool:
    """Whether a table without a column "file_name" has one of another name, or of images."""
    if any("filename" in re.sub(r"[\W_]", "", name.lower()) for name in table.column_names):
        return True
    texts = [column for column in table.columns if column.type in TEXTS and len(column)]
    firsts = [column[0].as_py() or "" for column in texts]
    return any(
        first and len(first.encode()) < 256 and (folder / first).is_file() for first in firsts
    )


def _what_is_wrong(path: Path) -> str:
    """Return the end of a message: what a spreadsheet may have written in another way."""
    if path.suffix != ".csv":
        return ""
    try:
        header = path.read_text(encoding="utf-8").partition("\n")[0]
    except UnicodeDecodeError:
        return "; its encoding must be UTF-8"
    except OSError:
        return ""
    separators = [separator for separator in (";", "\t") if separator in header]
    if separators and "," not in header:
        return f"; its separator must be a comma, not {separators[0]!r}"
    return ""


def other_spelling(missing: set[str], metadata: pa.Table, images: Iterable[str]) -> str:
    """Show a row without an image beside an image without a row, if they may be meant as one.

    They may be if their names differ in folders, ending, case or Unicode form alone; and if most of
    the rows have no image, something is wrong with all of them.

    Args:
        missing: The names in rows without an image.
        metadata: All rows.
        images: The paths of all images.

    Returns:
        A sentence; empty if there is nothing to show.
    """
    if not missing:
        return ""
    rows = {_stem(name): name for name in sorted(missing, reverse=True)}
    named = set(metadata["file_name"].to_pylist())
    others = (image for image in images if image not in named)
    first = next(others, None)
    if first is None:
        return ""
    alike = next((image for image in chain([first], others) if _stem(image) in rows), None)
    if alike is None and 2 * len(missing) <= len(metadata):
        return ""
    image = alike or first
    row = rows.get(_stem(image), min(missing))
    are_equal = unicodedata.normalize("NFC", row) == unicodedata.normalize("NFC", image)
    show = ascii if are_equal else repr
    return (
        f"metadata name {show(row)}, which is no image, while the image {show(image)} has no row: "
        "names must be those of the files, letter by letter, from the folder of the metadata on"
    )


def _stem(name: str) -> str:
    """Return a name without folders, ending, case and Unicode form."""
    base = posixpath.basename(name.replace("\\", "/"))
    return unicodedata.normalize("NFC", posixpath.splitext(base)[0]).casefold()


def other_label(metadata: pa.Table, classes: Collection[str]) -> str:
    """Say that a column such as "Label" is not used, where folders are classes.

    Args:
        metadata: All rows.
        classes: The folders that are classes.

    Returns:
        A sentence; empty if there is nothing to say.
    """
    found = next((name for name in metadata.column_names if name.lower() == "label"), None)
    if not classes or found is None:
        return ""
    return (
        f"labels are those of the {len(classes):,} folders, not of the metadata's column {found!r}:"
        f" --data.label_column {found} takes it"
    )
