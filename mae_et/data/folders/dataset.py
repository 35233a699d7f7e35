"""The images of a folder as data sets of `datasets`, one for each split.

Their rows (path, class, metadata) lie in a temporary file, which is mapped into memory: so loader
workers share it, however many images there are, and no cache can become stale. The order of the
rows is that of their paths, as in `load_dataset("imagefolder", …)`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import datasets
import pyarrow as pa
from datasets.features.features import generate_from_arrow_type
from datasets.table import MemoryMappedTable

from ...errors import check, say_once
from ..found import describe_counts
from ..scratch import scratch_file
from .layout import LAYOUTS, SPLITS, choose_layout
from .metadata import other_label, other_spelling, read_metadata
from .scan import Found, describe_not_used, scan

ROWS_PER_BATCH = 10_000
"""Rows of a record batch in the temporary file."""

Rows = tuple[list[str], list[str | None]]
"""The paths of some images, relative to the root, and their classes."""

Readings = dict[str, tuple[str | None, str | None]]
"""Folder with images -> their split and class."""


def open_folder(root: Path, layout: str = "auto") -> dict[str, datasets.Dataset]:
    """Open a folder of images; one line on stderr says what it holds, and what is not used.

    Args:
        root: The folder.
        layout: What its folders mean, a key of `LAYOUTS`; auto to choose.

    Returns:
        A data set for each split, "train" if there are no others. Its columns are "image" (the
        path), "label" (the class) if there are folders of classes, and those of metadata files.

    Raises:
        ValueError: The folder cannot be read, or in two ways, or it holds no images.
    """
    check(layout in ("auto", *LAYOUTS), "data.layout", layout, f"auto, {', '.join(LAYOUTS)}")
    found = scan(root)
    if not found.images:
        rest = describe_not_used(found.not_used) or "nothing"
        raise ValueError(f"data.path must hold images, got {str(root)!r} with {rest}")
    if layout == "auto":
        layout = choose_layout(found.images, str(root))
    readings: Readings = {folder: LAYOUTS[layout](folder) for folder in found.images}
    counts = Counter[str | None]()
    for folder, names in found.images.items():
        counts[readings[folder][0]] += names.count("/") + 1
    found.not_used["image outside the folders of splits"] = counts.pop(None, 0)
    if not counts:
        raise ValueError(f"data.layout must find splits in {str(root)!r}, got {layout!r}")
    metadata = read_metadata(root, found.metadata, found.not_used)
    classes = _classes(readings, metadata)
    rows = {split: _rows(found, readings, split) for split in SPLITS if split in counts}
    missing = set[str]()
    if metadata is not None:
        missing.update(metadata["file_name"].to_pylist())
        for split in rows:
            missing.difference_update(*(paths for paths, _ in _rows(found, readings, split)))
        found.not_used["row of metadata without an image"] = len(missing)
    say_once(_summary(root, found, readings, counts, classes))
    if metadata is not None:
        images = (
            path for split in rows for paths, _ in _rows(found, readings, split) for path in paths
        )
        for hint in (other_spelling(missing, metadata, images), other_label(metadata, classes)):
            if hint:
                say_once(f"{root}: {hint}")
    return {
        split: _dataset(root, split, images, classes, metadata) for split, images in rows.items()
    }


def _classes(readings: Readings, metadata: pa.Table | None) -> list[str]:
    """Return the names of the folders that are classes, in order.

    With metadata, labels are there; a single folder then holds the images, and is no class.
    """
    classes = sorted({label for split, label in readings.values() if split and label})
    if metadata is not None and ("label" in metadata.column_names or len(classes) == 1):
        return []
    return classes


def _rows(found: Found, readings: Readings, split: str) -> Iterator[Rows]:
    """Yield the rows of a split, in the order of their paths, some thousands at a time."""
    folders = [folder for folder, (its_split, _) in readings.items() if its_split == split]
    paths, labels = list[str](), list[str | None]()
    for group in _groups(sorted(folders, key=lambda folder: f"{folder}/" if folder else "")):
        label_of = dict[str, str | None]()
        for folder in group:
            prefix, label = f"{folder}/" if folder else "", readings[folder][1]
            ours = [prefix + name for name in sorted(found.images[folder].split("/"))]
            if len(group) > 1:
                label_of |= dict.fromkeys(ours, label)
            else:
                paths += ours
                labels += [label] * len(ours)
        paths += sorted(label_of)
        labels += map(label_of.__getitem__, paths[len(labels) :])
        if len(paths) >= ROWS_PER_BATCH:
            yield paths, labels
            paths, labels = [], []
    if paths:
        yield paths, labels


def _groups(folders: Iterable[str]) -> Iterator[list[str]]:
    """Group sorted folders: each with those inside it, whose images come between its own."""
    group: list[str] = []
    for folder in folders:
        if group and group[0] and not folder.startswith(f"{group[0]}/"):
            yield group
            group = []
        group.append(folder)
    if group:
        yield group


def _summary(
    root: Path, found: Found, readings: Readings, counts: Counter[str | None], classes: list[str]
) -> str:
    by_split = {split: counts[split] for split in SPLITS if split in counts}
    unlabelled = sum(
        found.images[folder].count("/") + 1
        for folder, (split, label) in readings.items()
        if split and not label
    )
    folders = len({label for split, label in readings.values() if split and label})
    not_used = describe_not_used(found.not_used)
    return (
        f"{root}: {describe_counts(by_split, len(classes))}"
        + (
            f"; labels: those of the metadata files, not the {folders:,} folders"
            if folders > 1 and not classes
            else ""
        )
        + (f"; {unlabelled:,} outside the folders of classes" if classes and unlabelled else "")
        + (f"; not used: {not_used}" if not_used else "")
    )


def _dataset(
    root: Path,
    split: str,
    rows: Iterator[Rows],
    classes: list[str],
    metadata: pa.Table | None,
) -> datasets.Dataset:
    """Return the data set of a split, whose rows lie in a temporary file."""
    features = {"image": datasets.Image()}
    if classes:
        features["label"] = datasets.ClassLabel(names=classes)
    if metadata is not None:
        row_of = {name: row for row, name in enumerate(metadata["file_name"].to_pylist())}
        metadata = metadata.drop_columns("file_name")
        features |= {field.name: generate_from_arrow_type(field.type) for field in metadata.schema}
    prefix = f"{root}/"
    number_of: dict[str | None, int] = {name: number for number, name in enumerate(classes)}
    schema, file = datasets.Features(features).arrow_schema, scratch_file("rows.arrow")
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for paths, labels in rows:
            columns = [_cells([prefix + path for path in paths])]
            if classes:
                columns.append(pa.array(map(number_of.get, labels), pa.int64()))
            if metadata is not None:
                columns += metadata.take(pa.array(map(row_of.get, paths), pa.int64())).columns
            writer.write_table(pa.table(columns, names=list(features)).cast(schema))
    with file.open("rb") as opened:
        fingerprint = hashlib.file_digest(opened, "blake2b").hexdigest()
    table = MemoryMappedTable.from_file(str(file))
    return datasets.Dataset(table, split=datasets.NamedSplit(split), fingerprint=fingerprint)


def _cells(paths: list[str]) -> pa.StructArray:
    """Return images as `datasets.Image` stores them: their bytes, here none, and their paths."""
    return pa.StructArray.from_arrays(
        [pa.nulls(len(paths), pa.binary()), pa.array(paths, pa.string())], ["bytes", "path"]
    )
