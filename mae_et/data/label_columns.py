"""The column of labels of a data set, and what its values say."""

from __future__ import annotations

import math
import re
from typing import Any

import datasets

from ..errors import check, print_once


def find_label_column(dataset: datasets.Dataset, column: str | None, field: str) -> str:
    """Find the column of labels of a data set.

    Args:
        dataset: A data set.
        column: The name of the column; None for the only column of class labels, or else "label".
        field: The configuration field that messages name.

    Returns:
        The name of the column.

    Raises:
        ValueError: There is no such column, or it holds no labels.
    """
    classes = [
        name
        for name, feature in dataset.features.items()
        if isinstance(feature, datasets.ClassLabel)
    ]
    found = column or (classes[0] if len(classes) == 1 else "label")
    if found not in dataset.column_names:
        possible = _possible_columns(dataset)
        if column is not None:
            columns = ", ".join(possible) or "the columns of labels, of which there are none"
            raise ValueError(f"{field} must be one of {columns}, got {column!r}")
        if not possible:
            raise ValueError(
                f"{field.partition('.')[0]}.path must hold labels, got none: a folder needs a "
                "folder for each class (DIR/train/CLASS/*.jpg) or a metadata.csv with the columns "
                "file_name and label, a table a column of labels"
            )
        others = f" (or {', '.join(possible[1:])})" if possible[1:] else ""
        raise ValueError(
            f"{field} must name the column of labels, got none: --{field} {possible[0]}{others}"
        )
    feature = dataset.features[found]
    if isinstance(feature, list | datasets.List | datasets.LargeList):
        raise ValueError(
            f"{field} must hold one label for each image, got {found!r} with lists: several labels "
            "of an image (multi-label) are not supported"
        )
    if not _may_be_labels(feature):
        kind = feature.dtype if isinstance(feature, datasets.Value) else type(feature).__name__
        raise ValueError(
            f"{field} must hold class labels, whole numbers from 0, strings or truth values, got "
            f"{found!r} with {kind}"
        )
    return found


def _may_be_labels(feature: Any) -> bool:
    kind = feature.dtype if isinstance(feature, datasets.Value) else ""
    is_label = re.fullmatch(r".*string.*|bool|u?int\d+|float\d+", kind)
    return isinstance(feature, datasets.ClassLabel) or bool(is_label)


def _possible_columns(dataset: datasets.Dataset) -> list[str]:
    """Return the columns that may be labels, those whose values come again most often first."""
    names = [
        name
        for name, feature in dataset.features.items()
        if _may_be_labels(feature) and not name.startswith("__")  # as our own and WebDataset's do
    ]
    different = {name: len(dataset.unique(name)) for name in names}
    return sorted(names, key=lambda name: (different[name] < 2, different[name]))


def without_spaces(values: list[Any], what: str) -> list[Any]:
    """Return labels without the spaces around them; a line on stderr says so. Empty ones are null.

    Args:
        values: Labels.
        what: The field and its value, for messages.
    """
    found = [value.strip() or None if isinstance(value, str) else value for value in values]
    changed = [
        old for old, new in zip(values, found, strict=True) if new is not None and old != new
    ]
    if changed:
        are = "label has" if len(changed) == 1 else "labels have"
        print_once(
            f"{what}: {len(changed):,} {are} spaces around them, which are left out: "
            f"{changed[0]!r} is {changed[0].strip()!r}"
        )
    return found


def class_number(value: Any, column: str, field: str) -> Any:
    """Return a label as it is; of a truth value its name, and of a float its whole number.

    Args:
        value: A label; None for a missing one, and so is NaN, which pandas has in its place.
        column: The column, for messages.
        field: The configuration field that messages name.

    Raises:
        ValueError: The label is no whole number.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return None
    if not value.is_integer():
        raise ValueError(
            f"{field} must hold class labels, whole numbers from 0, got {column!r} with {value}"
        )
    return int(value)


def has_labels(dataset: datasets.Dataset) -> bool:
    """Return whether a data set has a column of class labels, or one called "label"."""
    kinds = dataset.features.values()
    return "label" in dataset.features or any(isinstance(k, datasets.ClassLabel) for k in kinds)


def label_names(
    dataset: datasets.Dataset, column: str, rows: slice, field: str
) -> list[str | None]:
    """Return the names of the classes of some rows; None for a row without a label.

    Args:
        dataset: A split.
        column: The column of labels, as `find_label_column` returns it.
        rows: The rows.
        field: The configuration field that messages name.

    Raises:
        ValueError: A label is no whole number, or none of the numbers of its classes.
    """
    feature = dataset.features[column]
    values = dataset.select_columns([column])[rows][column]
    if not isinstance(feature, datasets.ClassLabel):
        values = [class_number(value, column, field) for value in values]
        values = [value.strip() or None if isinstance(value, str) else value for value in values]
        return [None if value in (None, -1) else str(value) for value in values]
    for value in values:
        ok = value is None or -1 <= value < feature.num_classes
        check(ok, f"{field} {column!r}", value, f"a number of its {feature.num_classes} classes")
    return [None if value in (None, -1) else feature.names[value] for value in values]
