"""What the folders of a folder of images mean: splits, classes, or neither.

Folders directly under the root are splits if each of them has the name of one; otherwise they are
classes. A class is the first folder below the split, whatever lies deeper in it.
"""

from __future__ import annotations

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
    _check_no_splits_in_classes(below, root)
    return "class"


def _splits(names: Iterable[str]) -> dict[str, str]:
    """Return the split that a folder is, for those that are one."""
    return {name: SPLIT_NAMES[name.lower()] for name in names if name.lower() in SPLIT_NAMES}


def _check_tops_are_classes(below: dict[str, set[str]], splits: dict[str, str], root: str) -> None:
    """Check that folders beside some that may be splits are not left out by mistake."""
    others = below.keys() - splits.keys()
    of_splits = set().union(*(below[name] for name in splits)) - {""}
    of_others = set().union(*(below[name] for name in others)) - {""}
    if len(set(splits.values())) > 1 or of_splits & of_others:
        raise ValueError(
            f"data.path {root!r} can be read in two ways: as the splits {_few(splits)}, without "
            f"{_few(others)} (--data.layout split/class), or as the classes {_few(below)} "
            "(--data.layout class)"
        )


def _check_no_splits_in_classes(below: dict[str, set[str]], root: str) -> None:
    """Check that no class has folders of splits, whose test images would be trained on."""
    for name in sorted(below):
        splits = _splits(below[name])
        if len(set(splits.values())) > 1 or (len(splits) == len(below[name]) == 1):
            inside = f"--data.path {root}/{name} reads {name!r} alone, " if len(below) == 1 else ""
            raise ValueError(
                f"data.path {root!r} can be read in two ways, since {name!r} holds the folders "
                f"{_few(below[name])}: {inside}--data.layout class/split takes them for splits of "
                f"the classes {_few(below)}, and --data.layout class for parts of the classes"
            )


def _few(names: Collection[str]) -> str:
    """Return up to five names, and how many more there are."""
    first = ", ".join(sorted(names)[:5])
    return first + (f" and {len(names) - 5} more" if len(names) > 5 else "")
