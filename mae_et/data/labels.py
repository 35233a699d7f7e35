"""The labels of a data set as class numbers, and a balanced part of them."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import datasets
import numpy as np

from ..errors import say_once
from .label_columns import class_number, find_label_column, without_spaces

log = logging.getLogger(__name__)

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
        self.field = f"{field} {column!r}" if column else f"{field.partition('.')[0]}.path"
        feature = dataset.features[self.column]
        values = dataset[self.column][:]
        if not isinstance(feature, datasets.ClassLabel):
            values = [class_number(value, self.column, field) for value in values]
            values = without_spaces(values, f"{field} {self.column!r}")
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
                f"{self.field} must have the classes of the training split in {dataset.split} too, "
                f"got others there: {_few(unknown)}{_nearest(unknown[0], self.class_names)}"
            )
        self.dataset = dataset
        self.labels = np.array([number[str(value)] for value in values])
        if class_names is None:
            self._tell_classes()
        elif lacking := self.lacking:
            say_once(
                f"the images to evaluate on, of {dataset.split}, have none of {_few(lacking)}: "
                "how well these are recognised is not measured"
            )

    @property
    def counts(self) -> Any:
        """(classes,) how many images of each class there are."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    @property
    def lacking(self) -> list[str]:
        """The classes without images."""
        return [self.class_names[label] for label in np.flatnonzero(self.counts == 0)]

    def _tell_classes(self) -> None:
        """Say which classes the labels make; a warning says so if they can't be classes."""
        number = len(self.class_names)
        classes, names = "class" + "es" * (number > 1), _few(self.class_names, quote=str)
        say_once(f"{number:,} {classes} by {self.column!r}: {names}")
        counts = self.counts[self.counts > 0]
        if len(counts) > 2 and np.median(counts) < 2:
            log.warning(
                "%s: most of the %d classes have a single image; is it a column of classes?",
                self.field,
                len(counts),
            )

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
    say_once(
        f"{field} {column!r}: {missing:,} of the {len(values):,} images of {dataset.split} have no "
        "label and are left out"
    )
    return dataset.select(rows), [values[row] for row in rows]


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


def check_every_class(
    images: LabelledImages, field: str | None = None, other: LabelledImages | None = None
) -> None:
    """Check that there are at least two classes, and images of each.

    Args:
        images: The images to learn from.
        field: The configuration field that messages name; None for the one that names the labels.
        other: The images to evaluate on, which may have what the others lack.

    Raises:
        ValueError: There is only one class, or there are classes without images; the message names
            them.
    """
    field, names = field or images.field, images.class_names
    if len(names) < 2:
        raise ValueError(f"{field} must have at least 2 classes, got {len(names)}")
    if lacking := images.lacking:
        message = f"got none of {_few(lacking)} in {images.dataset.split}"
        if other is not None and (there := other.counts[names.index(lacking[0])]):
            message += f", and {there:,} of {lacking[0]!r} in {other.dataset.split}"
        message += _nearest(lacking[0], [name for name in names if name not in lacking])
        raise ValueError(f"{field} must have images of every class, {message}")


def _few(names: Sequence[str], quote: Callable[[str], str] = repr) -> str:
    """Return up to five names, and how many more there are."""
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(map(quote, names[:5])) + more


def _nearest(name: str, names: Sequence[str]) -> str:
    """Return words that tell the name most like another one, for messages; "" if none is."""
    by_case = {known.casefold(): known for known in names}
    near = difflib.get_close_matches(name.casefold(), by_case, n=1)
    return f"; the nearest to {name!r} is {by_case[near[0]]!r}" if near else ""


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
