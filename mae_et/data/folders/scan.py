"""Find the images of a folder: one pass over the names in it, which opens no file.

Links are followed, but each folder is entered once for each folder directly under the root, however
many links lead to it: links between folders would multiply the images. Hidden files and folders
(names that begin with a dot, and `SYSTEM_FOLDERS`) are left out. A file is an image if its name has
an ending, in any case, of a format that Pillow or the reader of arrays can open. All that is left
out is counted.
"""

from __future__ import annotations

import heapq
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import dirname, splitext

from ..images.endings import COMMON_ENDINGS, image_endings

METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Files that give further columns of the images beside or below them."""

SYSTEM_FOLDERS = frozenset(
    ("@eadir", "#recycle", "__macosx", "$recycle.bin", "system volume information", "lost+found")
)
"""Folders of thumbnails and of deleted files, in lower case, that systems write unasked."""

HINTS = {
    **dict.fromkeys((".zip", ".gz", ".tgz", ".7z", ".rar"), "unpack them"),
    **dict.fromkeys((".heic", ".heif"), "convert them to JPEG"),
    ".tar": "webdataset:FILES reads them",
    ".parquet": "parquet:FILES reads them",
    ".csv": "labels are read from metadata.csv, with the columns file_name and label",
    ".arrow": "disk:DIR reads them",
}
"""What to do with files that are not used, by their ending."""


RUN_PARTS = frozenset({"config.yaml", "checkpoints"})
"""What the folder of a run has (see `mae_et.runs`), whose pictures and tables are no data."""


@dataclass(frozen=True)
class Found:
    """What a folder holds. Folders are relative to it, with slashes, and "" for itself."""

    images: dict[str, str] = field(default_factory=dict)
    """The names of the images of each folder that has any, in no order, with slashes between them:
    a list would take three times the memory."""
    metadata: list[str] = field(default_factory=list)
    """The metadata files, as paths relative to the folder."""
    not_used: Counter[str] = field(default_factory=Counter)
    """How many there are of each kind of thing that is not used."""


def scan(root: Path) -> Found:
    """Find the images of a folder and of all folders below it.

    Args:
        root: The folder.

    Raises:
        ValueError: A folder cannot be read.
    """
    found, empty = Found(), set[str]()
    real, entered = list[tuple[str, str]](), set[tuple[str, int, int]]()
    folders, links = [("", str(root))], list[tuple[str, str]]()
    while folders or links:
        # Links come last, so that it's them that are left out, and always the same ones.
        if not folders and real:  # what they lead to matters only now
            entered.update(_place(*one) for one in real)
            real.clear()
        folder, path = folders.pop() if folders else heapq.heappop(links)
        if not entered:
            real.append((folder, path))
        elif (place := _place(folder, path)) in entered:
            found.not_used["link to a folder that is read already"] += 1
            continue
        else:
            entered.add(place)
        entries = _entries(path)
        images = _joined_names(entries)
        if folder and images is None and {entry.name for entry in entries} >= RUN_PARTS:
            found.not_used["folder of a run"] += 1
            continue
        if images is None:
            names = []
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if reason := _reason_to_leave_out(entry):
                    found.not_used[reason] += 1
                elif entry.is_dir() and entry.is_symlink():
                    heapq.heappush(links, (name, entry.path))
                elif entry.is_dir():
                    folders.append((name, entry.path))
                elif (ending := splitext(name)[1].lower()) in image_endings():
                    names.append(entry.name)
                elif entry.name in METADATA_NAMES:
                    found.metadata.append(name)
                else:
                    found.not_used[ending or "file without an ending"] += 1
            images = "/".join(names)
        if images:
            found.images[folder] = images
        elif folder:
            empty.add(folder)
    if empty:
        _count_empty(found, empty)
    return found


def _place(folder: str, path: str) -> tuple[str, int, int]:
    """Return what identifies a folder among those of one folder directly under the root."""
    try:
        status = os.stat(path)  # noqa: PTH116  # a Path for each takes longer
    except OSError as error:
        raise ValueError(f"data.path must be readable, got {path!r} ({error.strerror})") from error
    return folder.partition("/")[0], status.st_dev, status.st_ino


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError as error:
        raise ValueError(f"data.path must be readable, got {path!r} ({error.strerror})") from error


def _joined_names(entries: list[os.DirEntry[str]]) -> str | None:
    """Return the names of a folder's entries, joined, if all are common images, as they mostly are.

    This looks at all names at once, in half of the time that looking at each would take.
    """
    try:
        names = [entry.name for entry in entries if entry.is_file()]
    except OSError:  # a link to itself
        return None
    joined = "/".join(names)
    endings = {ending.lower() for ending in {name[name.rfind(".") :] for name in names}}
    is_common = len(names) == len(entries) and joined.isascii() and "/." not in f"/{joined}"
    return joined if is_common and endings <= COMMON_ENDINGS else None


def _reason_to_leave_out(entry: os.DirEntry[str]) -> str | None:
    """Return why an entry is not even looked at, or None."""
    try:
        entry.is_dir()
    except OSError:
        return "broken link"
    if is_hidden(entry.name):
        return "hidden folder" if entry.is_dir() else "hidden file"
    if not (entry.is_file() or entry.is_dir()):
        return "broken link" if entry.is_symlink() else "special file"
    if entry.is_symlink() and entry.is_dir() and _leads_above(entry.path):
        return "link to a folder above it"
    try:
        entry.name.encode()
    except UnicodeEncodeError:  # Linux allows any bytes
        return "name not in UTF-8"
    return None


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is left out, as it is nobody's image.

    Args:
        name: The name, without the folders above it.
    """
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def _leads_above(link: str) -> bool:
    """Return whether a link leads to one of the folders that its path goes through."""
    return any(Path(link).samefile(folder) for folder in Path(link).absolute().parents)


def _count_empty(found: Found, empty: set[str]) -> None:
    """Count the folders that hold no images, not even below, but not those inside another one."""
    full = {""}
    for folder in found.images:
        parts = folder.split("/")
        full.update("/".join(parts[:number]) for number in range(1, len(parts) + 1))
    number = sum(dirname(folder) in full for folder in empty - full)
    if number:
        found.not_used["folder without images"] += number


def describe_not_used(not_used: Counter[str]) -> str:
    """Return words such as "14 .txt, 2 .zip (unpack them), 1 hidden folder"."""
    return ", ".join(
        f"{number:,} {kind if number == 1 else _plural(kind)}"
        + (f" ({HINTS[kind]})" if kind in HINTS else "")
        for kind, number in sorted(not_used.items(), key=lambda item: (-item[1], item[0]))
        if number
    )


def _plural(kind: str) -> str:
    return re.sub(r"\b(file|folder|link|name|image|row)\b", r"\1s", kind, count=1)
