"""The images of a folder as data sets of `datasets`, one for each split.

Their rows (path, class, metadata) lie in a temporary file, which is mapped into memory: so loader
workers share it, however many images there are, and no cache can become stale. The order of the
rows is that of their paths, as in `load_dataset("imagefolder", …)`.
"""

from __future__ import annotations

import hashlib
from itertools import chain
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute
from datasets.features.features import generate_from_arrow_type
from datasets.table import MemoryMappedTable

from ...errors import check, print_once
from ..scratch import scratch_file
from .layout import LAYOUTS, choose_layout
from .metadata import read_metadata, rows_of
from .scan import Found, describe_not_used, scan

SPLITS = ("train", "validation", "test")

ROWS_PER_BATCH = 10_000
"""Rows of a record batch in the temporary file."""


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
    chosen = choose_layout(found.images, str(root)) if layout == "auto" else layout
    metadata = read_metadata(root, found.metadata)
    classes = _classes(found, chosen, metadata)
    splits = _images_by_split(found, chosen, classes)
    if not splits:
        raise ValueError(f"data.layout must find splits in {str(root)!r}, got {layout!r}")
    if metadata is not None:
        _count_rows_without_image(found, metadata, splits)
    print_once(_summary(root, found, splits, classes))
    return {
        split: _dataset(root, split, images, classes, metadata) for split, images in splits.items()
    }


def _classes(found: Found, layout: str, metadata: pa.Table | None) -> list[str]:
    """Return the names of the folders that are classes, in order.

    With metadata, labels are there; a single folder then holds the images, and is no class.
    """
    readings = [LAYOUTS[layout](folder) for folder in found.images]
    classes = sorted({label for split, label in readings if split and label})
    if metadata is not None and ("label" in metadata.column_names or len(classes) == 1):
        return []
    return classes


def _images_by_split(found: Found, layout: str, classes: list[str]) -> dict[str, pa.Table]:
    """Return the "path" and "label" of each split's images; count the images that are in none."""
    readings = [LAYOUTS[layout](folder) for folder in found.images]
    of_folder = pa.table(
        {
            "prefix": pa.array([f"{folder}/" if folder else "" for folder in found.images]),
            "split": pa.array([split for split, _ in readings], pa.string()),
            "label": pa.compute.index_in(
                pa.array([label for _, label in readings], pa.string()),
                value_set=pa.array(classes, pa.string()),
            ),
        }
    )
    folder = np.repeat(np.arange(len(readings)), [len(names) for names in found.images.values()])
    names = pa.array(list(chain.from_iterable(found.images.values())), pa.string())
    images = of_folder.take(folder)
    paths = pa.compute.binary_join_element_wise(images["prefix"], names, "")
    images = images.set_column(0, "path", paths).sort_by("path")
    in_none = images["split"].null_count
    if in_none:
        found.not_used["image outside the folders of splits"] += in_none
    splits = {split: images.filter(pa.compute.field("split") == split) for split in SPLITS}
    return {split: part.drop_columns("split") for split, part in splits.items() if len(part)}


def _count_rows_without_image(
    found: Found, metadata: pa.Table, splits: dict[str, pa.Table]
) -> None:
    names = metadata["file_name"].combine_chunks()
    paths = pa.concat_tables(splits.values())["path"].combine_chunks()
    missing = len(names) - pa.compute.is_in(names, value_set=paths).true_count
    if missing:
        found.not_used["row of metadata without an image"] += missing


def _summary(root: Path, found: Found, splits: dict[str, pa.Table], classes: list[str]) -> str:
    counts = ", ".join(f"{split} {len(images):,}" for split, images in splits.items())
    unlabelled = sum(images["label"].null_count for images in splits.values()) if classes else 0
    return (
        f"{root}: {counts} image{'s' * (counts != 'train 1')}"
        + (f", {len(classes):,} class{'es' * (len(classes) > 1)}" if classes else "")
        + (f"; {unlabelled:,} outside the folders of classes" if unlabelled else "")
        + (f"; not used: {describe_not_used(found.not_used)}" if found.not_used else "")
    )


def _dataset(
    root: Path, split: str, images: pa.Table, classes: list[str], metadata: pa.Table | None
) -> datasets.Dataset:
    """Return the data set of a split, whose rows lie in a temporary file."""
    features = {"image": datasets.Image()}
    rows = images.rename_columns({"path": "image"})
    if classes:
        features["label"] = datasets.ClassLabel(names=classes)
    else:
        rows = rows.drop_columns("label")
    if metadata is not None:
        for name, column in rows_of(metadata, images["path"]).items():
            features[name] = generate_from_arrow_type(column.type)
            rows = rows.append_column(name, column)
    schema = datasets.Features(features).arrow_schema
    file = scratch_file("rows.arrow")
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for batch in rows.to_batches(ROWS_PER_BATCH):
            columns = [_cells(root, batch["image"]), *batch.columns[1:]]
            writer.write_table(pa.table(columns, names=rows.column_names).cast(schema))
    with file.open("rb") as opened:
        fingerprint = hashlib.file_digest(opened, "blake2b").hexdigest()
    return datasets.Dataset(
        MemoryMappedTable.from_file(str(file)),
        datasets.DatasetInfo(features=datasets.Features(features)),
        datasets.NamedSplit(split),
        fingerprint=fingerprint,
    )


def _cells(root: Path, paths: pa.StringArray) -> pa.StructArray:
    """Return images as `datasets.Image` stores them: their bytes, here none, and their paths."""
    paths = pa.compute.binary_join_element_wise(str(root), paths, "/")
    return pa.StructArray.from_arrays([pa.nulls(len(paths), pa.binary()), paths], ["bytes", "path"])
