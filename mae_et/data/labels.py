"""The labels of a data set as class numbers, and a balanced part of them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np

from ..errors import check, print_once

MAX_CLASSES = 100_000
"""The bound of labels that are integers; larger ones are not class numbers."""


class LabelledImages:
    """A split with its labels as class numbers.

    Args:
        dataset: A data set with a column of labels: class labels, whole numbers from 0, of any
            type, strings, or truth values, which are the classes false and true.
        column: The name of that column; None for the only column of class labels, or "label".
        class_names: The classes of the training split, for a split to evaluate on; None to find
            the classes.
        field: The configuration field that messages name.

    Raises:
        ValueError: There is no such column, labels are missing, or there are other classes.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        column: str | None,
        class_names: list[str] | None = None,
        *,
        field: str = "data.label_column",
    ) -> None:
        self.column = find_label_column(dataset, column, field)
        feature = dataset.features[self.column]
        values = dataset[self.column][:]
        if not isinstance(feature, datasets.ClassLabel):
            values = [class_number(value, self.column, field) for value in values]
        dataset, values = _with_labels(dataset, values, self.column, field)
        if isinstance(feature, datasets.ClassLabel):
            outside = sorted({value for value in values if not 0 <= value < feature.num_classes})
            if outside:
                raise ValueError(
                    f"{field} must hold numbers of its {feature.num_classes} classes, got "
                    f"{self.column!r} with {', '.join(map(str, outside[:5]))}"
                )
            values = [feature.names[value] for value in values]
        self.class_names = class_names or _class_names(feature, values, field)
        number = {name: index for index, name in enumerate(self.class_names)}
        unknown = sorted({str(value) for value in values} - number.keys())
        if unknown:
            raise ValueError(
                f"{field} must have the classes of the training split in the evaluation split too, "
                f"got {self.column!r} with {', '.join(unknown[:5])}, which the former lacks"
            )
        self.dataset = dataset
        self.labels = np.array([number[str(value)] for value in values])

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Any) -> None:
        """Keep only some of the rows, in the order given."""
        self.dataset = self.dataset.select(rows)
        self.labels = self.labels[rows]


def _with_labels(
    dataset: datasets.Dataset, values: list[Any], column: str, field: str
) -> tuple[datasets.Dataset, list[Any]]:
    """Return the rows that have a label, neither null nor -1; a line on stderr counts the others.

    Args:
        dataset: A split.
        values: The labels of its rows.
        column: The column of labels, for messages.
        field: The configuration field that messages name.

    Returns:
        The rows, and their labels.

    Raises:
        ValueError: No row has one.
    """
    rows = [row for row, value in enumerate(values) if value is not None and value != -1]
    missing = len(values) - len(rows)
    if not missing:
        return dataset, values
    if not rows:
        raise ValueError(f"{field} must hold labels, got {column!r} without any in {missing} rows")
    print_once(
        f"{field} {column!r}: {missing:,} of the {len(values):,} images of {dataset.split} have no "
        "label and are left out"
    )
    return dataset.select(rows), [values[row] for row in rows]


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
        columns = ", ".join(dataset.column_names)
        if column is None:
            raise ValueError(f"{field} must name a column of labels, got none; columns: {columns}")
        raise ValueError(f"{field} must be one of {columns}, got {column!r}")
    feature = dataset.features[found]
    if isinstance(feature, list | datasets.List | datasets.LargeList):
        raise ValueError(
            f"{field} must hold one label for each image, got {found!r} with lists: several labels "
            "of an image (multi-label) are not supported"
        )
    kind = feature.dtype if isinstance(feature, datasets.Value) else type(feature).__name__
    if kind != "ClassLabel" and not re.fullmatch(r".*string.*|bool|u?int\d+|float\d+", kind):
        raise ValueError(
            f"{field} must hold class labels, whole numbers from 0, strings or truth values, got "
            f"{found!r} with {kind}"
        )
    return found


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
        return [None if value in (None, -1) else str(value) for value in values]
    for value in values:
        ok = value is None or -1 <= value < feature.num_classes
        check(ok, f"{field} {column!r}", value, f"a number of its {feature.num_classes} classes")
    return [None if value in (None, -1) else feature.names[value] for value in values]


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


def _class_names(feature: Any, values: list[Any], field: str) -> list[str]:
    if isinstance(feature, datasets.ClassLabel):
        return list(feature.names)
    if feature.dtype == "bool":
        return ["false", "true"]
    if "string" in feature.dtype:
        return sorted(set(values))
    if min(values) < 0:
        raise ValueError(f"{field} must hold integers from 0, got {min(values)}")
    if max(values) >= MAX_CLASSES:
        raise ValueError(f"{field} must hold integers below {MAX_CLASSES}, got {max(values)}")
    return [str(label) for label in range(max(values) + 1)]


def check_every_class(labels: Any, class_names: Sequence[str], field: str) -> None:
    """Check that there are at least two classes, and images of each.

    Args:
        labels: (N,) class numbers.
        class_names: Names by class number.
        field: The configuration field that messages name.

    Raises:
        ValueError: There is only one class, or there are classes without images; the message names
            them.
    """
    if len(class_names) < 2:
        raise ValueError(f"{field} must have at least 2 classes, got {len(class_names)}")
    counts = np.bincount(labels, minlength=len(class_names))
    empty = [name for name, count in zip(class_names, counts, strict=True) if count == 0]
    if empty:
        raise ValueError(
            f"{field} must have images of every class, got none of {', '.join(empty[:5])}"
            + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
        )


def choose_labels(
    labels: Any,
    class_names: Sequence[str],
    *,
    per_class: int | None,
    fraction: float | None,
    seed: int,
) -> Any:
    """Choose the rows of a balanced part of the labels.

    Args:
        labels: (N,) class numbers.
        class_names: Names by class number.
        per_class: Number of rows of each class, or None.
        fraction: Share of each class's rows, or None. If both are None, all rows are chosen.
        seed: Seed of the choice.

    Returns:
        The row numbers in ascending order.

    Raises:
        ValueError: A class does not have that many rows, or would be left with none.
    """
    if per_class is None and fraction is None:
        return np.arange(len(labels))
    rng = np.random.default_rng([seed, 2])
    chosen = []
    for label, name in enumerate(class_names):
        rows = rng.permutation(np.flatnonzero(labels == label))
        if per_class is not None and per_class > len(rows):
            raise ValueError(
                f"data.labels_per_class must be at most {len(rows)}, the images of class {name!r}, "
                f"got {per_class}"
            )
        number = per_class if per_class is not None else round((fraction or 0) * len(rows))
        if number < 1:
            raise ValueError(
                f"data.label_fraction must leave a label for each of the {len(class_names)} "
                f"classes, got {fraction} of the {len(rows)} images of class {name!r}"
            )
        chosen.append(rows[:number])
    return np.sort(np.concatenate(chosen))
