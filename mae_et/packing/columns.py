"""The labels and further columns of a data set, and the members of a tar file that hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets

from ..data import ORIGIN, find_label_column
from ..data.tables.tars import NUMBERS, TEXTS
from ..errors import check

NOT_KEPT = {ORIGIN, "__key__", "__url__"}
"""Columns that reading a table makes, and will make again."""


def further_columns(splits: Mapping[str, datasets.Dataset], image: str) -> datasets.Features:
    """Return the columns beside the images, of all splits.

    Args:
        splits: The splits.
        image: The column of images.

    Raises:
        ValueError: Two splits have a column of the same name that differs.
    """
    found: dict[str, Any] = {}
    for split, rows in splits.items():
        for name, feature in rows.features.items():
            if name == image or name in NOT_KEPT:
                continue
            same = f"columns {name!r} that are alike in all splits"
            check(found.setdefault(name, feature) == feature, "data.path", split, same)
    return datasets.Features(found)


def label_column(splits: Mapping[str, datasets.Dataset]) -> str | None:
    """Return the column of labels that fine-tuning would find by itself, if there is one."""
    for rows in splits.values():
        try:
            return find_label_column(rows, None, "data.label_column")
        except ValueError:
            continue
    return None


def original_name(cell: Any, root: Path | None) -> str | None:
    """Return the name of an image's file, relative to the data set; None if it has none.

    Args:
        cell: A cell of the column of images.
        root: The folder of the data set, if it is one.
    """
    path = Path((isinstance(cell, dict) and cell.get("path")) or "")
    if not path.name:
        return None
    if cell["bytes"] is None:  # a file of this machine
        path = path.absolute()
    if root is not None and path.is_relative_to(root):
        path = path.relative_to(root)
    return str(path.relative_to(path.anchor))


class TarFields:
    """The members of a sample, beside its image, from which our reader makes columns again.

    Those are .label, the name of the class; .cls, its number; columns of text and numbers whose
    names have the endings of such members; and JSON of all others, with the file's name.

    Args:
        features: The further columns.
        label: The column of labels, if there is one.

    Raises:
        ValueError: A column can't be kept in a tar file.
    """

    def __init__(self, features: datasets.Features, label: str | None) -> None:
        for name, feature in features.items():
            allowed = f"parquet to keep the column {name!r} of {feature}"
            check(_is_for_json(feature), "--format", "webdataset", allowed)
        self.features = features
        self.fields = {name: name for name in features if _reads_as_column(name, features[name])}
        if label is not None:
            field = _label_field(features[label])
            self.fields = {name: own for name, own in self.fields.items() if own != field}
            if field is not None:
                self.fields[label] = field
        self.json = "columns.json" if "json" in self.fields.values() else "json"
        self.number_of = label if isinstance(features.get(label), datasets.ClassLabel) else None

    @property
    def label_option(self) -> str:
        """What fine-tuning must be told to find the labels; nothing if it finds them."""
        is_number = "cls" in self.fields.values() and "label" not in self.fields.values()
        return " --data.label_column cls" if is_number else ""

    def members(self, row: Mapping[str, Any], file_name: str | None) -> dict[str, bytes]:
        """Return the content of a sample's members by the ends of their names.

        Args:
            row: The further columns of an image.
            file_name: The image's original name.
        """
        found: dict[str, bytes] = {}
        rest: dict[str, Any] = {"file_name": file_name} if file_name else {}
        for column, value in row.items():
            feature, shown = self.features[column], value
            if isinstance(feature, datasets.ClassLabel):
                known = value is not None and 0 <= value < feature.num_classes
                shown = feature.names[value] if known else None
                if known and column == self.number_of and "cls" not in self.fields.values():
                    found["cls"] = str(value).encode()
            if column not in self.fields:
                rest[column] = shown
            elif shown is not None:
                text = str(shown).lower() if isinstance(shown, bool) else str(shown)
                found[self.fields[column]] = text.encode()
        found[self.json] = json.dumps(rest, ensure_ascii=False, default=str).encode()
        return found


def _reads_as_column(name: str, feature: Any) -> bool:
    """Whether the reader makes the same column of members that end with a column's name."""
    kind, ending = getattr(feature, "dtype", ""), name.rpartition(".")[2]
    if not re.fullmatch(r"[a-z0-9_.-]+", name) or isinstance(feature, datasets.ClassLabel):
        return False
    return (ending in TEXTS and "string" in kind) or (ending in NUMBERS and "int" in kind)


def _label_field(feature: Any) -> str | None:
    """The field of a label: of names, of whole numbers, or none."""
    kind = feature.dtype
    if isinstance(feature, datasets.ClassLabel) or "string" in kind or kind == "bool":
        return "label"
    return "cls" if "int" in kind else None


def _is_for_json(feature: Any) -> bool:
    """Whether JSON can hold the values of a column: neither bytes, nor images, nor arrays."""
    if isinstance(feature, datasets.List | datasets.LargeList):
        return _is_for_json(feature.feature)
    if isinstance(feature, dict):
        return all(map(_is_for_json, feature.values()))
    return isinstance(feature, datasets.ClassLabel) or (
        isinstance(feature, datasets.Value) and "binary" not in feature.dtype
    )
