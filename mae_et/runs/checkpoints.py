"""The seal of a checkpoint: state.json names its step and the SHA-256 of each of its files."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from pathlib import Path

log = logging.getLogger(__name__)

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


def sound_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint that is what was written; None if there is no checkpoint.

    Damaged ones after it are set aside, as step_….damaged, and a warning says so.

    Raises:
        ValueError: there are checkpoints, and all are damaged.
    """
    damaged: dict[Path, str] = {}
    for checkpoint in reversed(list_checkpoints(run)):
        try:
            sealed_step(checkpoint)
        except ValueError as error:
            damaged[checkpoint] = str(error)
            continue
        for other, reason in damaged.items():
            aside = other.with_suffix(".damaged")
            shutil.rmtree(aside, ignore_errors=True)
            other.rename(aside)
            log.warning(
                "checkpoint %s is damaged (%s) and was renamed to %s; going on from %s",
                *(other, reason, aside.name, checkpoint.name),
            )
        return checkpoint
    if damaged:
        reasons = "; ".join(f"{path.name}: {reason}" for path, reason in damaged.items())
        raise ValueError(f"--resume needs a sound checkpoint in {run}, all are damaged ({reasons})")
    return None


def latest_checkpoint(run: Path) -> Path | None:
    """The newest whole checkpoint of a run."""
    return next(reversed(list_checkpoints(run)), None)


def remove_unfinished(run: Path) -> None:
    """Remove what an interrupted save has left."""
    for folder in (run / "checkpoints").glob("*.tmp"):
        shutil.rmtree(folder)


def list_checkpoints(run: Path) -> list[Path]:
    folders = (run / "checkpoints").glob("step_*")
    return sorted(folder for folder in folders if re.fullmatch(r"step_\d+", folder.name))
