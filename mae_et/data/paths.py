"""The paths of data sets: their kind, and where the data are."""

from __future__ import annotations

import re
from pathlib import Path

from ..config import PATH_KINDS, check_local_path, nearest_path
from .folders.scan import HINTS
from .images.endings import image_endings
from .tables import ENDINGS

KINDS = ("hub", "imagefolder", "parquet", "webdataset", "disk", "python")
"""Kinds of paths."""


def parse_path(path: str) -> tuple[str, str]:
    """Return the kind and the location of a path, as in `data.path`.

    Raises:
        ValueError: The path is of no known kind, or does not exist.
    """
    kind, _, location = path.partition(":")
    if kind not in KINDS:
        kind, location = _guess_kind(path), path
    if not location:
        raise ValueError(f"data.path must be {PATH_KINDS}, got {path!r}")
    if location.startswith("~"):
        location = str(Path(location).expanduser())
    is_local = kind not in ("hub", "python") and "://" not in location
    is_pattern = kind in ("parquet", "webdataset") and any(sign in location for sign in "*?[{")
    if is_local and not is_pattern and not Path(location).expanduser().exists():
        raise ValueError(f"data.path must exist, got {path!r}{nearest_path(location)}")
    return kind, location


def _guess_kind(path: str) -> str:
    """Return what a path without a kind looks like: a folder, a table, or a data set of the Hub.

    Raises:
        ValueError: It looks like none of them.
    """
    if Path(path).expanduser().is_dir():
        return "imagefolder"
    for kind, endings in ENDINGS.items():
        if path.lower().endswith(endings):
            return kind
    here = Path(path).expanduser()
    if here.exists():
        raise ValueError(
            f"data.path must be a folder of images or a table of them, got the file {path!r}, "
            f"which is in the folder {str(here.absolute().parent)!r}"
        )
    known = image_endings() | HINTS.keys() | {".csv", ".json", ".jsonl"}
    check_local_path("data.path", path)
    if here.suffix.lower() in known:
        raise ValueError(f"data.path must exist, got {path!r}{nearest_path(path)}")
    if re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?(:[^/]+)?(@[^/]+)?", path):
        return "hub"
    raise ValueError(f"data.path must be {PATH_KINDS}, got {path!r}")


def is_image_folder(path: str) -> bool:
    """Return whether a path, as in `data.path`, is a folder of images.

    Raises:
        ValueError: The path is of no known kind, or does not exist.
    """
    return parse_path(path)[0] == "imagefolder"


def local_path(path: str) -> Path | None:
    """Return the file or folder that a path, as in `data.path`, names on this machine.

    Args:
        path: The path; of a pattern, it is the folder above the first part that has a sign of one.

    Returns:
        The absolute path; None for data that are elsewhere.

    Raises:
        ValueError: The path is of no known kind, or does not exist.
    """
    kind, location = parse_path(path)
    if kind in ("hub", "python") or "://" in location:
        return None
    found = Path(location).expanduser()
    if not found.exists():
        found = Path(re.split(r"[*?\[{]", location)[0] + "_").expanduser().parent
    return found.absolute()


def local_folder(path: str) -> Path | None:
    """Return the folder of this machine that a path, as in `data.path`, takes data from.

    Args:
        path: As in `local_path`.

    Returns:
        The folder, without links in its path; None for a single file, or data that are elsewhere.

    Raises:
        ValueError: The path is of no known kind, or does not exist.
    """
    found = local_path(path)
    return found.resolve() if found is not None and found.is_dir() else None


def hub_location(location: str) -> tuple[str, str | None, str | None]:
    """Split NAME[:CONFIG][@REVISION] into its parts.

    Args:
        location: What follows `hub:` in a path.

    Returns:
        The name, and configuration and revision, None for one that is not given.
    """
    name_and_config, _, revision = location.partition("@")
    name, _, config = name_and_config.partition(":")
    return name, config or None, revision or None
