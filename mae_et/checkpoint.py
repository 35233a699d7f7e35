"""Checkpoints: saving a run atomically, and going on from what was saved.

    RUN/checkpoints/step_00001000/   model.safetensors, accelerate's optimizer state, state.json

A checkpoint is written beside its place and renamed, so a folder without ".tmp" is whole. What a
run hands on is in `mae_et.timm_folder`; reading weights of any origin in `mae_et.weights`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor, nn


def save_checkpoint(accelerator: Accelerator, run: Path, step: int, keep: int) -> None:
    """Save everything that training goes on from, atomically; keep the last `keep` checkpoints."""
    final = run / "checkpoints" / f"step_{step:08d}"
    unfinished = final.with_suffix(".tmp")
    accelerator.save_state(str(unfinished))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (unfinished / "state.json").write_text(json.dumps({"step": step}))
        for path in (*unfinished.rglob("*"), unfinished):
            _flush(path)
        _replace(final, unfinished)
        _flush(final.parent)
        for old in _checkpoints(run)[:-keep]:
            _remove(old)
    accelerator.wait_for_everyone()


def load_checkpoint(accelerator: Accelerator, checkpoint: Path) -> int:
    """Restore a checkpoint into the prepared model and optimizer; the step to go on with.

    Raises:
        ValueError: the checkpoint is damaged.
    """
    try:
        accelerator.load_state(str(checkpoint))
        step: int = json.loads((checkpoint / "state.json").read_text())["step"]
    except Exception as error:  # damaged files raise nearly anything
        raise ValueError(
            f"checkpoint {checkpoint} is damaged ({type(error).__name__}); remove its folder to go "
            "on from the one before"
        ) from error
    return step


def save_unwrapped(accelerator: Accelerator) -> None:
    """Have checkpoints hold the model without DDP's prefix, for any number of processes."""

    def unwrap(model: nn.Module) -> nn.Module:
        unwrapped: nn.Module = accelerator.unwrap_model(model, keep_torch_compile=False)
        return unwrapped

    def before_save(models: list[nn.Module], weights: list[dict[str, Tensor]], _: str) -> None:
        weights[:] = [unwrap(model).state_dict() for model in models]

    def before_load(models: list[nn.Module], folder: str) -> None:
        for model in models:
            unwrap(model).load_state_dict(load_file(Path(folder) / "model.safetensors"))
        models.clear()  # accelerate loads what is left

    accelerator.register_save_state_pre_hook(before_save)
    accelerator.register_load_state_pre_hook(before_load)


def latest_checkpoint(run: Path) -> Path | None:
    """The newest whole checkpoint of a run."""
    return next(reversed(_checkpoints(run)), None)


def remove_unfinished(run: Path) -> None:
    """Remove what an interrupted save has left."""
    for folder in (run / "checkpoints").glob("*.tmp"):
        shutil.rmtree(folder)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write in, beside `folder`, whose place it takes if all goes well."""
    unfinished = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        _replace(folder, unfinished)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _replace(folder: Path, new: Path) -> None:
    """Put a new folder into the place of another, which exists until then."""
    if folder.exists():
        _remove(folder)
    new.rename(folder)


def _remove(folder: Path) -> None:
    """Remove a folder that must not look whole while it is being removed."""
    going = folder.with_name(folder.name + ".old.tmp")
    shutil.rmtree(going, ignore_errors=True)
    shutil.rmtree(folder.rename(going))


def _checkpoints(run: Path) -> list[Path]:
    folders = (run / "checkpoints").glob("step_*")
    return sorted(folder for folder in folders if re.fullmatch(r"step_\d+", folder.name))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
