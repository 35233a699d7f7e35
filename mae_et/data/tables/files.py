"""The files of a table: found by a path, sorted into splits, and recognised when they change."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path, PurePath

from ..folders.layout import SPLITS, splits_in
from ..folders.scan import RUN_PARTS, is_hidden

log = logging.getLogger(__name__)

ENDINGS = {
    "parquet": (".parquet", ".parq", ".pq"),
    "webdataset": (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"),
}
"""Kind of table -> the endings of its files, in lower case."""

ALL_ENDINGS = tuple(chain(*ENDINGS.values()))
"""The endings of all kinds of tables."""

NUM_BLOCKS, BLOCK_SIZE = 16, 4096
"""Blocks of a file that its signature depends on, and the bytes of each."""


class NoFilesError(ValueError):
    """A path holds no files of its kind."""


def find_files(kind: str, location: str) -> dict[str, list[str]]:
    """Find the files of a table.

    Args:
        kind: parquet or webdataset.
        location: A file, a folder, or a pattern: with *, ? and [ ] as in a shell, with {000..009}
            for numbers and {a,b} for alternatives. What exists by that name is no pattern.

    Returns:
        The files of each split; those of a pattern, or of a folder whose names tell no splits, are
        all "train".

    Raises:
        NoFilesError: There are none.
        ValueError: A file of a pattern is missing, or it is not clear which split files belong to.
    """
    path = Path(location).expanduser()
    if path.is_dir():
        return _find_in_folder(kind, path.absolute())
    if path.exists():
        return {"train": [str(path.absolute())]}
    found: dict[str, None] = {}
    patterns = expand_braces(str(path))
    for pattern in patterns:
        files = [pattern] if Path(pattern).is_file() else _glob(pattern)
        files = [str(Path(file).absolute()) for file in files if Path(file).is_file()]
        if not files and len(patterns) > 1:
            raise NoFilesError(f"no file is called {pattern}")
        found |= dict.fromkeys(files)
    if not found:
        raise NoFilesError("no file has such a name")
    return {"train": list(found)}


def _glob(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  # Path's needs a folder


def expand_braces(pattern: str) -> list[str]:
    """Expand {000..009} and {a,b} in a pattern, as a shell does, from left to right."""
    for match in re.finditer(r"\{([^{}]*)\}", pattern):
        numbers = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
        if numbers:
            first, last = int(numbers[1]), int(numbers[2])
            step = 1 if first <= last else -1
            width = len(numbers[1]) if numbers[1].startswith("0") else 0
            words = [f"{number:0{width}d}" for number in range(first, last + step, step)]
        elif "," in match[1]:
            words = match[1].split(",")
        else:
            continue
        rest = expand_braces(pattern[match.end() :])
        return [pattern[: match.start()] + word + end for word in words for end in rest]
    return [pattern]


def _find_in_folder(kind: str, folder: Path) -> dict[str, list[str]]:
    """The files below a folder by split."""
    paths = [PurePath(path) for path in _walk(folder)]
    files = [path for path in paths if path.name.lower().endswith(ENDINGS[kind])] or paths
    if not files:
        raise NoFilesError("the folder holds no files")
    keys = sorted({part for path in files for part in path.parts[:-1] if "=" in part})
    if keys:
        log.warning(
            "the names of folders such as %s in %s are no columns: labels must be in the files",
            keys[0],
            folder,
        )
    splits = _sort_into_splits(folder, files)
    return {name: [str(folder / path) for path in of_split] for name, of_split in splits.items()}


def _walk(folder: Path) -> list[str]:
    """The files below a folder, relative to it and in order, without hidden ones; links count."""
    found, seen, left_out = list[str](), set[Path](), list[str]()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = Path(root).resolve()
        if real in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        if Path(root) != folder and {*folders, *names} >= RUN_PARTS:
            log.warning("not used: %s, the folder of a run", root)
            folders.clear()
            continue
        tables = [name for name in names if name.lower().endswith(ALL_ENDINGS)]
        left_out += [str(Path(root, name)) for name in (*folders, *tables) if _is_set_aside(name)]
        folders[:] = [n for n in folders if not (n.startswith("_") or is_hidden(n))]
        found += [
            str(Path(root, name).relative_to(folder))
            for name in names
            if not name.startswith((".", "_"))
        ]
    if left_out:
        log.warning(
            "not used: %d files or folders whose names begin with _, such as %s",
            len(left_out),
            min(left_out),
        )
    return sorted(found)


def _is_set_aside(name: str) -> bool:
    """Return whether a name is one that Spark and others give to what is no part of a table."""
    return name.startswith("_") and not is_hidden(name)


def _sort_into_splits(folder: Path, files: Sequence[PurePath]) -> dict[str, list[PurePath]]:
    """Sort the files of a folder into splits, by the rules of `datasets`.

    Names like data/NAME-00000-of-00005.parquet tell splits of any name; else words in the names of
    files do, or else words in the names of folders.

    Raises:
        ValueError: A name has the words of two splits, or only some names tell a split.
    """
    sharded = {path: re.match(r"data/(\w+(?:\.\w+)*)-\d{5}-of-\d{5}", str(path)) for path in files}
    named = {path: match[1] for path, match in sharded.items() if match}
    named = named or _splits_by_words(folder, files, lambda path: path.parts[-1:])
    named = named or _splits_by_words(folder, files, lambda path: path.parts[:-1])
    if not named:
        return {"train": list(files)}
    others = [path for path in files if path not in named]
    if others and "train" not in named.values():
        path, split = next(iter(named.items()))
        raise ValueError(
            f"the name of {path} says {split}, while {len(others)} others such as {others[0]} say "
            f"no split: call those train…, or name the files by a pattern, as in {folder}/*"
        )
    if others:
        log.warning(
            "not used: %d files of %s, such as %s, whose names say neither train, validation nor "
            "test, as those of others do",
            len(others),
            folder,
            others[0],
        )
    known = [name for name in SPLITS if name in named.values()]
    names = known + sorted(set(named.values()) - set(known))
    return {name: [path for path in files if named.get(path) == name] for name in names}


def _splits_by_words(
    folder: Path, files: Sequence[PurePath], parts_of: Callable[[PurePath], Sequence[str]]
) -> dict[PurePath, str]:
    """The split of each file whose path has the words of one in some of its parts.

    Raises:
        ValueError: A path has the words of two, or several folders have splits of their own.
    """
    found: dict[PurePath, str] = {}
    inside: dict[str, set[str]] = {}
    for path in files:
        said = {part: splits_in(part) for part in parts_of(path)}
        splits = [split for split in SPLITS if split in set().union(*said.values())]
        if len(splits) > 1:
            raise ValueError(
                f"the name of {path} in {folder} says {' and '.join(splits)}: rename it, or name "
                "the files by a pattern"
            )
        if splits:
            found[path] = splits[0]
            first = path.parts.index(next(part for part in said if said[part]))
            inside.setdefault("/".join(path.parts[:first]), set()).add(splits[0])
    several = sorted(parent for parent, splits in inside.items() if len(splits) > 1)
    if len(several) > 1:
        raise ValueError(
            f"{several[0] or folder} and {several[1]} in {folder} have splits of their own, and "
            "one may train on what another tests on: name the folder of one, as in "
            f"{folder}/{several[-1]}, or rename them"
        )
    return found


def signatures(files: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return what tells whether files have changed: size, time, and a digest of some blocks.

    A time alone does not: archives, rsync -t and bucket mounts bring files with the times that
    others had.

    Args:
        files: The files.

    Raises:
        OSError: A file can't be read.
    """
    with ThreadPoolExecutor(max_workers=16) as pool:
        return list(pool.map(_signature, files))


def _signature(file: str) -> tuple[str, str, str]:
    digest = hashlib.sha256()
    with Path(file).open("rb", buffering=0) as opened:
        status = os.fstat(opened.fileno())
        last = max(0, status.st_size - BLOCK_SIZE)
        for start in sorted({last * block // (NUM_BLOCKS - 1) for block in range(NUM_BLOCKS)}):
            digest.update(os.pread(opened.fileno(), BLOCK_SIZE, start))
    return str(status.st_size), str(status.st_mtime_ns), digest.hexdigest()


def short_names(files: Sequence[str]) -> list[str]:
    """Return the files relative to the folder that they have in common, for messages."""
    folder = os.path.commonpath([Path(file).parent for file in files])
    return [str(Path(file).relative_to(folder)) for file in files]
