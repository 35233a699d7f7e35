"""What the folders of a folder of images mean: splits, classes, or neither.

Folders directly under the root are splits if each of them has the name of one; otherwise they are
classes. A class is the first folder below the split, whatever lies deeper in it.
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
        return "split/class"
    _check_tops_are_classes(below, splits, root)
    _check_no_splits_in_classes(folders, sorted(below), root)
    return "class"


def _splits(names: Iterable[str]) -> dict[str, str]:
    """Return the split that a folder is, for those that are one."""
    return {name: SPLIT_NAMES[name.lower()] for name in names if name.lower() in SPLIT_NAMES}


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
    words = {name: re.split(r"[^A-Za-z]|(?<=[a-z])(?=[A-Z])", name)[0].lower() for name in below}
    named = {name: SPLIT_NAMES.get(word) for name, word in words.items()}  # as in train2017, trainA
    if None not in named.values() and len(set(named.values())) > 1:
        raise ValueError(
            f"data.path {root!r} can be read in two ways: as the splits {_few(below)} (call them "
            f"{' and '.join(sorted({str(split) for split in named.values()}))}), or as classes of "
            "these names (--data.layout class)"
        )


def _check_no_splits_in_classes(folders: Collection[str], classes: list[str], root: str) -> None:
    """Check that there are no splits deeper in the classes, whose test images would be mixed."""
    inside: dict[str, set[str]] = {}
    for folder in folders:
        parts = folder.split("/")
        for depth in range(1, len(parts)):
            inside.setdefault("/".join(parts[:depth]), set()).add(parts[depth])
    for name in sorted(inside):
        splits = _splits(inside[name])
        is_class = "/" not in name
        if len(set(splits.values())) > 1 or (is_class and len(splits) == len(inside[name]) == 1):
            alone = f"--data.path {root}/{name} reads {name!r} alone, " * (len(classes) == 1)
            for_all = (
                f"--data.layout class/split takes them for splits of the classes {_few(classes)}, "
            ) * is_class
            raise ValueError(
                f"data.path {root!r} can be read in two ways, since {name!r} holds the folders "
                f"{_few(inside[name])}: {alone}{for_all}and --data.layout class takes them for "
                "parts of the classes"
            )


def _few(names: Collection[str]) -> str:
    """Return up to five names, and how many more there are."""
    first = ", ".join(sorted(names)[:5])
    return first + (f" and {len(names) - 5} more" if len(names) > 5 else "")
