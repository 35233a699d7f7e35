"""Checkpoints on disk: which ones exist, and whether they are what was written.

    RUN/checkpoints/step_00001000/   model.safetensors, accelerate's optimizer state, state.json

A checkpoint is written under a temporary name and renamed, so a folder without ".tmp" is complete.
Its seal, state.json, has its step and the SHA-256 of each of its files, which reveals later damage.
It is no signature: who writes a checkpoint writes its seal.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..config import check_within, parse_json, read_text

log = logging.getLogger(__name__)

SEAL = "state.json"

CHECKPOINT_PREFIX = "step_"
"""How the folder of a checkpoint begins, also of one that is unfinished or set aside."""


@dataclass(frozen=True)
class Checkpoint:
    """The folder of a checkpoint, which need not exist.

    Args:
        folder: The folder, RUN/checkpoints/step_XXXXXXXX.
    """

    folder: Path

    @classmethod
    def of_step(cls, checkpoints: Path, step: int) -> Checkpoint:
        """Return the checkpoint of a step in the folder of a run's checkpoints."""
        return cls(checkpoints / f"{CHECKPOINT_PREFIX}{step:08d}")

    @classmethod
    def at(cls, path: Path) -> Checkpoint | None:
        """Return the checkpoint that a path names; None if it does not look like one."""
        return cls(path) if re.fullmatch(rf"{CHECKPOINT_PREFIX}\d+", path.name) else None

    @property
    def step(self) -> int:
        """The number of optimizer steps before it was written."""
        return int(self.folder.name.removeprefix(CHECKPOINT_PREFIX))

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def weights(self) -> Path:
        """The file of the whole model's weights, under the model's own names."""
        return self.folder / "model.safetensors"

    @property
    def unfinished(self) -> Path:
        """The temporary folder in which it is written."""
        return self.folder.with_suffix(".tmp")

    @property
    def run_folder(self) -> Path:
        """The folder of its run."""
        return self.folder.absolute().parent.parent

    def seal(self) -> None:
        """Write the seal into the unfinished folder, once all other files are there."""
        state = {"step": self.step, "sha256": _digests(self.unfinished)}
        (self.unfinished / SEAL).write_text(json.dumps(state, indent=1))

    def verify(self) -> None:
        """Check that the files are those that were written.

        Raises:
            ValueError: They are not those; the message says what is wrong.
        """
        try:
            check_within(self.folder, self.run_folder)
            state = parse_json(read_text(self.folder / SEAL, within=self.folder))
            step, written = int(state["step"]), dict(state["sha256"])
            found = _digests(self.folder)
        except (OSError, ValueError, KeyError, TypeError, ArithmeticError) as error:
            raise ValueError(f"{SEAL}: {type(error).__name__} {error}") from error
        if self.name != Checkpoint.of_step(self.folder.parent, step).name:
            raise ValueError(f"{SEAL} is of step {step}")
        for name, digest in written.items():
            if name not in found:
                raise ValueError(f"{name} is missing")
            if found[name] != digest:
                raise ValueError(f"{name} is not what was written")

    def set_aside(self) -> Path:
        """Rename a damaged checkpoint, so that nothing mistakes it for a sound one."""
        aside = self.folder.with_suffix(".damaged")
        shutil.rmtree(aside, ignore_errors=True)
        return self.folder.rename(aside)


def list_checkpoints(checkpoints: Path) -> list[Checkpoint]:
    """Return the whole checkpoints in the folder of a run's checkpoints, oldest first."""
    found = map(Checkpoint.at, sorted(checkpoints.glob(f"{CHECKPOINT_PREFIX}*")))
    return [checkpoint for checkpoint in found if checkpoint]


def sound_checkpoint(checkpoints: Path) -> Checkpoint | None:
    """Return the newest checkpoint that passes verification; None if there is no checkpoint.

    Damaged checkpoints after it are set aside, as step_….damaged, with a warning.

    Args:
        checkpoints: The folder of a run's checkpoints.

    Raises:
        ValueError: There are checkpoints, and all are damaged.
    """
    damaged: dict[Checkpoint, str] = {}
    for checkpoint in reversed(list_checkpoints(checkpoints)):
        try:
            checkpoint.verify()
        except ValueError as error:
            damaged[checkpoint] = str(error)
            continue
        for other, reason in damaged.items():
            log.warning(
                "checkpoint %s is damaged (%s) and was renamed to %s; resuming from %s",
                *(other.folder, reason, other.set_aside().name, checkpoint.name),
            )
        return checkpoint
    if damaged:
        reasons = "; ".join(f"{one.name}: {reason}" for one, reason in damaged.items())
        raise ValueError(
            f"--resume needs a sound checkpoint in {checkpoints.parent}, all are damaged "
            f"({reasons})"
        )
    return None


def _digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != SEAL:
            check_within(path, folder)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            digests[path.relative_to(folder).as_posix()] = digest
    return digests
