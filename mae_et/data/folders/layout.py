"""What the folders of a folder of images mean: splits, classes, or neither.

Folders directly under the root are splits if each of them has the name of one; otherwise they are
classes. A class is the first folder below the split, whatever lies deeper in it. Where folders
beside each other only have words of several splits in their names (train2017, img_val), it is an
error.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable

SPLITS = ("train", "validation", "test")

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""Names of folders, in lower case -> the split that they are; the words of `datasets`."""

SURE_WORDS = SPLIT_NAMES.keys() - {"dev", "eval", "evaluation"}
"""Those that say a split within a longer name, too; others do beside "train" ("dev board")."""

NO_LETTERS = r"[\W\d_]+"
"""What separates words in names."""

WORD_ENDS = rf"{NO_LETTERS}|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"
"""What separates words in names with capitals inside, as in XMLTest and myTrain."""

Reading = Callable[[str], tuple[str | None, str | None]]
"""A folder -> the split and the class of the images in it, None if there is none."""


def _split_and_class(folder: str) -> tuple[str | None, str | None]:
    split, label, *_ = (*folder.split("/"), "")
    return SPLIT_NAMES.get(split.lower()), label or None


def _class_only(folder: str) -> tuple[str | None, str | None]:
    return "train", folder.split("/")[0] or None


def _class_and_split(folder: str) -> tuple[str | None, str | None]:
    label, split, *_ = (*folder.split("/"), "")
    return SPLIT_NAMES.get(split.lower()), label


def _flat(folder: str) -> tuple[str | None, str | None]:
    return "train", None


LAYOUTS: dict[str, Reading] = {
    "split/class": _split_and_class,
    "class": _class_only,
    "class/split": _class_and_split,
    "flat": _flat,
}
"""The values of `data.layout` but auto."""

JOINED = {
    "trainval": {"train", "validation"},
    "training": {"train"},
    "train": {"train"},
    "validation": {"validation"},
    "val": {"validation"},
    "testing": {"test"},
    "test": {"test"},
}
"""Words of splits that may be joined to others, as in VOCtest; the longest first."""


def choose_layout(folders: Collection[str], root: str) -> str:
    """Choose how to read a folder of images.

    Args:
        folders: The folders that hold images, relative to the root, "" for itself.
        root: The root, for messages.

    Returns:
        A key of `LAYOUTS`.

    Raises:
        ValueError: There are two readings; the message names both.
    """
    below: dict[str, set[str]] = {}
    for folder in folders:
        top, second, *_ = (*folder.split("/"), "")
        if top:
            below.setdefault(top, set()).add(second)
    if not below:
        return "flat"
    splits = _splits(below)
    if len(splits) == len(below):
        twice = [split for split, number in Counter(splits.values()).items() if number > 1]
        if twice:
            same = " and ".join(name for name in splits if splits[name] == twice[0])
            raise ValueError(
                f"data.path {root!r} must have one folder a split, got {same}, which both are the "
                f"{twice[0]} split; rename one, or --data.layout class takes them for classes"
            )
        if len(splits) == 1:  # whose images may be of all splits
            _check_no_splits_inside(folders, sorted(below), root, "split/class")
        return "split/class"
    _check_tops_are_classes(below, splits, root)
    _check_no_splits_inside(folders, sorted(below), root, "class")
    return "class"


def _splits(names: Iterable[str]) -> dict[str, str]:
    """Return the split that a folder is, for those that are one."""
    return {name: SPLIT_NAMES[name.lower()] for name in names if name.lower() in SPLIT_NAMES}


def splits_in(name: str, words: Collection[str] = SPLIT_NAMES) -> set[str]:
    """Return the splits that the words in a name say, as in val2017, testA, img_train or testset.

    Args:
        name: The name of a folder or file.
        words: Those of `SPLIT_NAMES` that count.
    """
    if not re.search("train|val|test|dev", name.lower()):  # most do not, and this is fast
        return set()
    found = {*re.split(WORD_ENDS, name), *re.split(NO_LETTERS, name.lower())}
    found = {re.sub(r"(?<=.)(set|data|images?|imgs?)$", "", word.lower()) for word in found}
    if "trainval" in found:
        found |= {"train", "val"}
    return {SPLIT_NAMES[word] for word in found.intersection(words)}


def mixed_splits(names: Collection[str]) -> dict[str, set[str]]:
    """Return the splits that folders beside each other say, if they say several; else nothing.

    Beside folders that say none, words count only in names that are otherwise the same, as in
    seg_train and seg_test: train_station and test_tube beside car are classes.

    Args:
        names: The names of the folders.
    """
    said = {name: splits for name in names if (splits := splits_in(name))}
    if len(said) < len(names) and not any(name.lower() in SPLIT_NAMES for name in said):
        said = {}
    said = {**_splits_of_one_stem(names), **said}
    if not any("train" in splits for splits in said.values()):
        said = {
            name: splits
            for name in said
            if (splits := splits_in(name, SURE_WORDS | (SPLIT_NAMES.keys() & {name.lower()})))
        }
    return said if len(said) > 1 and len(set().union(*said.values())) > 1 else {}


def _splits_of_one_stem(names: Collection[str]) -> dict[str, set[str]]:
    """Return the splits of names that are the same without them: VOCtrainval_2007, VOCtest_2007."""
    by_stem: dict[str, dict[str, set[str]]] = {}
    for name in names:
        if not re.search("train|val|test", name.lower()):
            continue
        for joined, splits in JOINED.items():
            begins_or_ends = rf"(?<![a-z]){joined}|{joined}(?![a-z])"
            stem, number = re.subn(begins_or_ends, " ", name.lower(), count=1)
            if number:
                by_stem.setdefault(re.sub(r"\d+|[a-z]{3}-\d+", "0", stem), {})[name] = splits
    found: dict[str, set[str]] = {}
    for said in by_stem.values():
        if len(set().union(*said.values())) > 1:
            found |= said
    return found


def folders_inside(folders: Iterable[str]) -> dict[str, set[str]]:
    """Return the names of the folders directly inside each folder, of which "" is the root.

    Args:
        folders: Paths of folders with slashes, relative to the root.
    """
    inside: dict[str, set[str]] = {}
    for folder in folders:
        parts = folder.split("/") if folder else []
        for depth, name in enumerate(parts):
            inside.setdefault("/".join(parts[:depth]), set()).add(name)
    return inside


def _check_tops_are_classes(below: dict[str, set[str]], splits: dict[str, str], root: str) -> None:
    """Check that no folder directly under the root is a split, whose images would be mixed.

    A folder of a split's name beside others is a class only if it is alone and its images lie
    directly in it, as in {car, dog, train}.
    """
    if len(set(splits.values())) > 1 or any(below[name] != {""} for name in splits):
        others = below.keys() - splits.keys()
        raise ValueError(
            f"data.path {root!r} can be read in two ways: as the splits {_few(splits)}, without "
            f"{_few(others)} (--data.layout split/class), or as the classes {_few(below)} "
            "(--data.layout class)"
        )
    if said := mixed_splits(below):
        raise ValueError(
            f"data.path {root!r} can be read in two ways: as the splits {_few(said)} (call them "
            f"{_all_of(said)}), or as classes of these names (--data.layout class)"
        )


def _check_no_splits_inside(
    folders: Collection[str], tops: list[str], root: str, layout: str
) -> None:
    """Check that there are no splits deeper in the classes, whose test images would be mixed."""
    for name, inside in sorted(folders_inside(folders).items()):
        splits, said = _splits(inside), mixed_splits(inside)
        is_class = layout == "class" and "/" not in name
        if name and (said or (is_class and len(splits) == len(inside) == 1)):
            alone = f"--data.path {root}/{name} reads {name!r} alone, " * (len(tops) == 1)
            called = f", called {_all_of(said)}," * (len(splits) < len(said))
            for_all = (
                f"--data.layout class/split takes them{called} for splits of the classes "
                f"{_few(tops)}, "
            ) * is_class
            raise ValueError(
                f"data.path {root!r} can be read in two ways, since {name!r} holds the folders "
                f"{_few(inside)}: {alone}{for_all}and --data.layout {layout} takes them for "
                "parts of the classes"
            )


def _all_of(said: dict[str, set[str]]) -> str:
    """Return all splits that folders say, in the order of their letters."""
    return " and ".join(sorted(set().union(*said.values())))


def _few(names: Collection[str]) -> str:
    """Return up to five names, and how many more there are."""
    first = ", ".join(sorted(names)[:5])
    return first + (f" and {len(names) - 5} more" if len(names) > 5 else "")
