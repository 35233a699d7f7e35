"""Labels: of which classes, which of them are used, and what is refused."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pytest

from mae_et import data
from mae_et.data.labels import LabelledImages, choose_labels


def test_balanced_choice_of_labels() -> None:
    labels = np.repeat(np.arange(4), [10, 20, 30, 40])
    chosen = choose_labels(labels, list("abcd"), per_class=5, fraction=None, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [5, 5, 5, 5]
    assert (chosen == choose_labels(labels, list("abcd"), per_class=5, fraction=None, seed=0)).all()
    assert (chosen != choose_labels(labels, list("abcd"), per_class=5, fraction=None, seed=1)).any()
    chosen = choose_labels(labels, list("abcd"), per_class=None, fraction=0.1, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [1, 2, 3, 4]
    assert len(choose_labels(labels, list("abcd"), per_class=None, fraction=None, seed=0)) == 100


def test_eval_split_has_the_classes_of_the_training_split(clothes: str) -> None:
    """Class numbers come from the names, whatever a split's own order or part of the classes."""
    rows = data.load_splits(clothes)["test"].select(range(3)).remove_columns("label")
    held_out = LabelledImages(rows.add_column("kind", ["c", "b", "c"]), "kind", ["a", "b", "c"])
    assert held_out.labels.tolist() == [2, 1, 2]
    with pytest.raises(ValueError, match=r"must have the classes .* with d, which"):
        LabelledImages(rows.add_column("kind", ["c", "d", "c"]), "kind", ["a", "b", "c"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([-1, -1, -1], "without any in 3 rows"),
        ([0.0, 1.0, 1.5], "whole numbers from 0, got .kind. with 1.5"),
        ([0, -2, 1], "from 0, got -2"),
        ([0.0, float("inf"), 1.0], "got 'kind' with inf"),
        ([[0, 1], [1], []], r"got 'kind' with lists: .*multi-label.* not supported"),
        ([None, None, None], "with null"),
    ],
)
def test_labels_that_are_none(clothes: str, values: list[Any], message: str) -> None:
    rows = data.load_splits(clothes)["test"].select(range(3))
    with pytest.raises(ValueError, match=message):
        LabelledImages(rows.add_column("kind", values), "kind")


@pytest.mark.parametrize(
    ("values", "expected", "class_names"),
    [
        ([True, False, True], [1, 0, 1], ["false", "true"]),
        ([True, True, True], [1, 1, 1], ["false", "true"]),
        ([2.0, 0.0, 1.0], [2, 0, 1], ["0", "1", "2"]),
    ],
)
def test_truth_values_and_whole_floats_are_classes(
    values: list[Any], expected: list[int], class_names: list[str]
) -> None:
    labelled = LabelledImages(datasets.Dataset.from_dict({"kind": values}), "kind")
    assert labelled.labels.tolist() == expected
    assert labelled.class_names == class_names


def test_labels_of_strings_and_integers(clothes: str) -> None:
    train = data.load_splits(clothes)["train"]
    labelled = LabelledImages(train, None)
    names = [labelled.class_names[label] for label in labelled.labels]
    as_strings = LabelledImages(train.add_column("kind", names), "kind")
    assert [as_strings.class_names[label] for label in as_strings.labels] == names
    as_numbers = LabelledImages(train.add_column("number", labelled.labels.tolist()), "number")
    assert as_numbers.labels.tolist() == labelled.labels.tolist()
    assert as_numbers.class_names == [str(label) for label in range(10)]


def test_a_label_outside_the_classes(clothes: str) -> None:
    from mae_et.data.labels import LabelledImages

    rows = datasets.load_dataset("parquet", data_dir=clothes.partition(":")[2], split="test")
    table = rows.data.table.set_column(1, "label", [[7, 12] + [1] * (len(rows) - 2)])
    broken = datasets.Dataset(table, info=rows.info)
    with pytest.raises(ValueError, match=r"numbers of its 10 classes, got 'label' with 12"):
        LabelledImages(broken, None)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([True, None, False], ["false", "true"]),
        ([1.0, float("nan"), 0.0], ["0", "1"]),
        ([1, -1, 0], ["0", "1"]),
        (["b", None, "a"], ["a", "b"]),
    ],
)
def test_images_without_a_label_are_left_out(
    clothes: str, capsys: pytest.CaptureFixture[str], values: list[Any], names: list[str]
) -> None:
    rows = data.load_splits(clothes)["test"].select(range(3)).add_column("kind", values)
    labelled = LabelledImages(rows, "kind")
    assert (labelled.class_names, labelled.labels.tolist()) == (names, [1, 0])
    expected = [rows["image"][row].tobytes() for row in (0, 2)]
    assert [image.tobytes() for image in labelled.dataset["image"]] == expected
    assert "1 of the 3 images of test have no label" in capsys.readouterr().err
