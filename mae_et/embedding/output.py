"""Join the parts to one file, part by part, so that memory does not grow with the images.

OUT                  .parquet: file, split, label, vector; .csv: a column per number;
.npy: the vectors alone, with the other columns in a .csv beside it
OUT.json             the checkpoint, images and options that the features are of
OUT.bad_images.txt   a line for each unreadable image, if there are any
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from ..errors import RunStoppedError
from ..runs import write_text
from .parts import Parts

ROW_GROUP = 8192
"""The least rows of a row group of a Parquet file, but for the last."""


def names_file(out: Path) -> Path | None:
    """Return the file of names and labels beside a .npy file; None beside others."""
    return out.with_suffix(".csv") if out.suffix.lower() == ".npy" else None


def job_file(out: Path) -> Path:
    """Return the file that says what the features in a file are of."""
    return out.with_name(out.name + ".json")


def bad_images_file(out: Path) -> Path:
    """Return the file that lists the images of which there are no features."""
    return out.with_name(out.name + ".bad_images.txt")


def written_files(out: Path) -> list[Path]:
    """Return the files that hold features, and must not exist before."""
    return [file for file in (out, names_file(out)) if file is not None]


def join(parts: Parts, out: Path, dim: int, job: Mapping[str, Any]) -> tuple[int, int]:
    """Write the parts, all of which exist, to one file, and remove them.

    Args:
        parts: The parts.
        out: A .parquet, .npy or .csv file, which is replaced if it exists.
        dim: D, the numbers of a vector.
        job: What the features are of, as plain data.

    Returns:
        The number of images with features, and of unreadable ones.

    Raises:
        ValueError: None of the images is readable.
        RunStoppedError: The file cannot be written; the parts stay.
    """
    unfinished = [file.with_name(file.name + ".tmp") for file in written_files(out)]
    write = {".parquet": _write_parquet, ".npy": _write_npy, ".csv": _write_csv}[out.suffix.lower()]
    try:
        number, rows = _write_lines(bad_images_file(out), parts.bad_images()), parts.num_rows()
        if not rows:
            parts.remove()
            allowed = f"readable images, not {number:,} of which none is ({bad_images_file(out)})"
            raise ValueError(f"data.path must hold {allowed}, got {job['data']!r}")
        write(parts, unfinished, dim)
        for new, file in reversed(list(zip(unfinished, written_files(out), strict=True))):
            new.replace(file)
        written = {"job": dict(job), "rows": rows, "bad_images": number}
        write_text(job_file(out), json.dumps(written, indent=2) + "\n")
    except OSError as error:
        for file in unfinished:
            file.unlink(missing_ok=True)
        raise RunStoppedError(
            f"{out} can't be written ({error}); the same command goes on from {parts.folder}"
        ) from error
    parts.remove()
    return rows, number


def _write_lines(file: Path, lines: Iterator[str]) -> int:
    """Write lines to a file, or remove it if there are none; return how many there are."""
    unfinished = file.with_name(file.name + ".tmp")
    number = 0
    with unfinished.open("w") as opened:
        for line in lines:
            opened.write(" ".join(line.split()) + "\n")
            number += 1
    if number:
        unfinished.replace(file)
    else:
        unfinished.unlink()
        file.unlink(missing_ok=True)
    return number


def _write_parquet(parts: Parts, files: list[Path], dim: int) -> None:
    (file,) = files
    with pq.ParquetWriter(file, next(parts.tables()).schema) as writer:
        for table in _row_groups(parts.tables()):
            writer.write_table(table, row_group_size=len(table) or None)


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join consecutive tables until they have enough rows for a row group."""
    waiting = list[pa.Table]()
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= ROW_GROUP:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _write_npy(parts: Parts, files: list[Path], dim: int) -> None:
    vectors, names = files
    header = {"descr": "<f4", "fortran_order": False, "shape": (parts.num_rows(), dim)}
    with vectors.open("wb") as opened:
        np.lib.format.write_array_header_1_0(opened, header)
        for table in parts.tables():
            opened.write(_vectors(table, dim).astype("<f4").tobytes())
    _write_tables(names, parts, lambda table: table.drop_columns(["vector"]))


def _write_csv(parts: Parts, files: list[Path], dim: int) -> None:
    def spread(table: pa.Table) -> pa.Table:
        columns = table.drop_columns(["vector"])
        for number, values in enumerate(np.ascontiguousarray(_vectors(table, dim).T)):
            columns = columns.append_column(f"feature_{number}", pa.array(values))
        return columns

    _write_tables(files[0], parts, spread)


def _write_tables(file: Path, parts: Parts, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write the parts as CSV, each one changed first; every float32 reads back as it was."""
    options = pyarrow.csv.WriteOptions(quoting_style="needed")
    schema = change(next(parts.tables()).slice(0, 0)).schema
    with pyarrow.csv.CSVWriter(file, schema, write_options=options) as writer:
        for table in parts.tables():
            writer.write_table(change(table))


def _vectors(table: pa.Table, dim: int) -> Any:
    """Return the vectors of a table, (n, D) float32."""
    column = table["vector"].combine_chunks()
    return column.flatten().to_numpy().reshape(-1, dim)
