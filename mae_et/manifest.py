"""The seal of a checkpoint: state.json names its step and the SHA-256 of each of its files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

NAME = "state.json"


def seal(folder: Path, step: int) -> None:
    """Write state.json, once all other files of the checkpoint are there."""
    (folder / NAME).write_text(json.dumps({"step": step, "sha256": _digests(folder)}, indent=1))


def sealed_step(folder: Path) -> int:
    """The step of a checkpoint that is sound.

    Raises:
        ValueError: what is wrong with it.
    """
    try:
        state = json.loads((folder / NAME).read_text())
        step, written = int(state["step"]), dict(state["sha256"])
        found = _digests(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{NAME}: {type(error).__name__} {error}") from error
    if folder.name != f"step_{step:08d}":
        raise ValueError(f"{NAME} is of step {step}")
    for name, digest in written.items():
        if name not in found:
            raise ValueError(f"{name} is missing")
        if found[name] != digest:
            raise ValueError(f"{name} is not what was written")
    return step


def _digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != NAME:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            digests[path.relative_to(folder).as_posix()] = digest
    return digests
