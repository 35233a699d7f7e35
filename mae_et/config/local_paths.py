"""Mistyped paths of this machine, found before PyTorch is imported, which takes seconds."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path


def check_local_path(name: str, path: str | None) -> None:
    """Check that there is something at a path, if it can only be one of this machine.

    Others, such as a bare name, which may be one of the Hub, are checked where they are opened.

    Args:
        name: The option, for the message.
        path: A path, as in `data.path` or `checkpoint`; None if it is not given.

    Raises:
        ValueError: There is nothing.
    """
    location = (path or "").removeprefix("imagefolder:")
    if re.match(r"(/|\./|\.\./|~)", location) and not Path(location).expanduser().exists():
        raise ValueError(f"{name} must exist, got {path!r}{nearest_path(location)}")


def nearest_path(location: str) -> str:
    """Return "; nearest: NAME" for a mistyped file or folder, or an empty text if none is near."""
    path = Path(location).expanduser()
    try:
        names = [one.name for one in path.parent.iterdir()]
    except OSError:  # no such folder either
        return ""
    return "".join(
        f"; nearest: {path.parent / name}" for name in get_close_matches(path.name, names, n=1)
    )
