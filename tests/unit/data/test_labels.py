"""Labels: of which classes, which of them are used, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import datasets
import numpy as np
import pytest

from mae_et import data
from mae_et.data.labels import LabelledImages, check_every_class, choose_labels


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
    message = r"'kind' must have the classes of the training split in test too, got others .*: 'd'$"
    with pytest.raises(ValueError, match=message):
        LabelledImages(rows.add_column("kind", ["c", "d", "c"]), "kind", ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"'Bird'; the nearest to 'Bird' is 'bird'$"):
        LabelledImages(rows.add_column("kind", ["Bird"] * 3), "kind", ["bat", "bird"])


def table(values: list[Any], split: str = "train", **more: list[Any]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"kind": values, **more}, split=datasets.NamedSplit(split))


def test_spaces_around_labels_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    labelled = LabelledImages(table(["circle ", "square", "circle", "\tsquare", " ", ""]), "kind")
    assert labelled.class_names == ["circle", "square"]
    assert labelled.labels.tolist() == [0, 1, 0, 1]
    spaces, missing, classes = capsys.readouterr().err.splitlines()
    assert spaces.startswith("data.label_column 'kind': 2 labels have spaces around them")
    assert spaces.endswith("'circle ' is 'circle'")
    assert "2 of the 6 images of train have no label" in missing
    assert classes == "2 classes by 'kind': circle, square"
    held_out = LabelledImages(table(["square "], "test"), "kind", labelled.class_names)
    assert held_out.labels.tolist() == [1]


def test_classes_are_told(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    labelled = LabelledImages(table([f"n{row % 7}" for row in range(14)]), "kind")
    assert capsys.readouterr().err == "7 classes by 'kind': n0, n1, n2, n3, n4 and 2 more\n"
    assert not caplog.messages
    LabelledImages(table(["n1", "n0", "n1"], "test"), "kind", labelled.class_names)
    expected = "of test, have none of 'n2', 'n3', 'n4', 'n5', 'n6': how well"
    assert expected in capsys.readouterr().err
    LabelledImages(table([f"n{row % 7}" for row in range(7)], "test"), "kind", None)
    assert "'kind': most of the 7 classes have a single image" in caplog.text


def test_a_class_that_is_to_be_learned_without_images() -> None:
    """The user has named no column, so the message does not either."""
    kind = datasets.Features(label=datasets.ClassLabel(names=["Circle", "circle", "square"]))
    train = datasets.Dataset.from_dict({"label": [1, 2]}, kind, split=datasets.Split.TRAIN)
    test = datasets.Dataset.from_dict({"label": [0, 0, 2]}, kind, split=datasets.Split.TEST)
    labelled = LabelledImages(train, None)
    other = LabelledImages(test, None, labelled.class_names)
    with pytest.raises(ValueError, match=r"^data\.path must") as error:
        check_every_class(labelled, other=other)
    assert str(error.value) == (
        "data.path must have images of every class, got none of 'Circle' in train, and 2 of "
        "'Circle' in test; the nearest to 'Circle' is 'circle'"
    )
    with pytest.raises(
        ValueError, match=r"^eval\.images 3 must have .* none of 'Circle' in train;"
    ):
        check_every_class(labelled, "eval.images 3")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"note": ["a", "b", "c", "d"], "shape": ["x", "y", "x", "y"], "one": [1, 1, 1, 1]},
            "data.label_column must name the column of labels, got none: --data.label_column shape "
            "(or note, one)",
        ),
        (
            {"__key__": ["a", "b", "c", "d"], "cls": [0, 1, 1, 1], "__url__": ["u"] * 4},
            "data.label_column must name the column of labels, got none: --data.label_column cls",
        ),
        ({"__key__": ["a", "b"]}, "data.path must hold labels, got none: a folder needs a folder"),
    ],
)
def test_what_to_type_where_no_column_is_named(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        LabelledImages(datasets.Dataset.from_dict(columns), None)


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
