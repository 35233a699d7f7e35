"""Writing checkpoints atomically, and restoring a run from one.

What a checkpoint holds, and how damage is found, is in `mae_et.runs.checkpoints`; accelerate writes
the files, and the hooks here ensure that they are complete and safe to read.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from accelerate import Accelerator
from accelerate.utils import RNG_STATE_NAME, gather_object, load
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import RunStoppedError, first_line
from ..runs import Checkpoint, Run, remove_folder, replace_folder
from .fsdp import load_whole, whole

log = logging.getLogger(__name__)

WRITE_ERRORS = (OSError, SafetensorError, RuntimeError)
"""The errors a full disk raises: in Python, in safetensors and in torch.save."""


def save_checkpoint(accelerator: Accelerator, run: Run, step: int, keep: int) -> bool:
    """Save everything that training resumes from, atomically; keep the last `keep` checkpoints.

    A full disk costs this checkpoint, not the run: older ones stay.

    Returns:
        Whether it was saved, the same in every process. If not, a warning says why.
    """
    checkpoint = run.checkpoint(step)
    final, unfinished = checkpoint.folder, checkpoint.unfinished

    def complete() -> None:
        if accelerator.is_main_process:
            checkpoint.seal()
            for path in (*unfinished.rglob("*"), unfinished):
                _flush(path)
            replace_folder(final, unfinished)
            _flush(final.parent)
            for old in run.checkpoints()[:-keep]:
                remove_folder(old.folder)

    error = _write(accelerator, lambda: accelerator.save_state(str(unfinished)))
    error = error or _write(accelerator, complete)
    if error and accelerator.is_main_process:
        shutil.rmtree(unfinished, ignore_errors=True)
        log.warning(
            "no checkpoint of step %d: %s; older ones stay, training continues", step, error
        )
    return not error


def try_saving(accelerator: Accelerator, run: Run) -> None:
    """Save the state once and remove it again, to find out before the first step that it fails.

    It costs the time to write the weights; the optimizer has no state yet.

    Raises:
        RunStoppedError: It fails: for want of space, or since libraries do not fit together.
    """
    trial = run.checkpoint(0).unfinished
    error = _write(accelerator, lambda: accelerator.save_state(str(trial)), every_error=True)
    if accelerator.is_main_process:
        _warn_of_little_space(trial, run)
        shutil.rmtree(trial, ignore_errors=True)
    if error:
        raise RunStoppedError(
            f"no checkpoint can be saved in {run.folder} ({error}); nothing was trained. Make "
            "space, or update accelerate"
        )


def _warn_of_little_space(trial: Path, run: Run) -> None:
    needed = 3 * sum(file.stat().st_size for file in trial.rglob("*"))  # with AdamW's two moments
    free = shutil.disk_usage(run.folder).free
    if needed > free:
        log.warning("a checkpoint needs about %d MiB, %d are free", needed >> 20, free >> 20)


def _write(
    accelerator: Accelerator, work: Callable[[], object], *, every_error: bool = False
) -> str:
    """Do some work in every process; return the first error, the same in each; empty if none."""
    errors = []
    try:
        work()
    except Exception as error:
        if not every_error and not isinstance(error, WRITE_ERRORS):
            raise
        errors = [f"{type(error).__name__} {str(error).strip().partition(chr(10))[0]}"]
    return next(iter(gather_object(errors)), "")


def load_checkpoint(accelerator: Accelerator, checkpoint: Checkpoint) -> int:
    """Restore a sound checkpoint into the prepared model and optimizer; return the next step.

    Accelerate unpickles tensors and numbers only. It says nothing if the random states are more
    than that, and goes on with others, so they are read here first.

    Raises:
        ValueError: The checkpoint does not fit, or holds what can't be read safely.
    """
    random_states = checkpoint.folder / f"{RNG_STATE_NAME}_{accelerator.process_index}.pkl"
    try:
        if random_states.exists():  # not of a process that the run did not have before
            load(random_states, weights_only=True)
        accelerator.load_state(str(checkpoint.folder))
    except pickle.UnpicklingError as error:  # its message advises loading the file anyway
        raise ValueError(
            f"checkpoint {checkpoint.folder} holds more than tensors and numbers, or is damaged; "
            "nothing in it was executed"
        ) from error
    except Exception as error:  # from any library that keeps a state in it
        reason = f"{type(error).__name__} {first_line(error)}"
        raise ValueError(f"checkpoint {checkpoint.folder} can't be restored ({reason})") from error
    return checkpoint.step


def save_unwrapped(accelerator: Accelerator) -> None:
    """Have checkpoints hold the whole model under its own names, for any number of processes."""

    def unwrap(model: nn.Module) -> nn.Module:
        unwrapped: nn.Module = accelerator.unwrap_model(model, keep_torch_compile=False)
        return unwrapped

    def before_save(models: list[nn.Module], weights: list[dict[str, Tensor]], _: str) -> None:
        weights[:] = [whole(unwrap(model).state_dict()) for model in models]

    def before_load(models: list[nn.Module], folder: str) -> None:
        for model in models:
            load_whole(unwrap(model), load_file(Checkpoint(Path(folder)).weights))
        models.clear()  # accelerate loads whatever is left in the list

    accelerator.register_save_state_pre_hook(before_save)
    accelerator.register_load_state_pre_hook(before_load)


def save_beside(accelerator: Accelerator, module: nn.Module, name: str) -> None:
    """Have checkpoints hold a further module, as safetensors (accelerate would pickle it).

    Args:
        accelerator: The accelerator of this process.
        module: The module.
        name: The name of its file.
    """

    def save(_: Any, __: Any, folder: str) -> None:
        if accelerator.is_main_process:
            save_file(module.state_dict(), Path(folder) / name)

    def load(_: Any, folder: str) -> None:
        module.load_state_dict(load_file(Path(folder) / name))

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def save_state_beside(accelerator: Accelerator, part: Resumable, name: str) -> None:
    """Have checkpoints hold the state of a further part of the run, from all processes, as JSON.

    Args:
        accelerator: The accelerator of this process.
        part: The part that has the state.
        name: The name of its file.
    """

    def save(_: Any, __: Any, folder: str) -> None:
        states = gather_object([part.state_dict()])
        if accelerator.is_main_process:
            merged = {key: value for state in states for key, value in state.items()}
            (Path(folder) / name).write_text(json.dumps(merged))

    def load(_: Any, folder: str) -> None:
        part.load_state_dict(json.loads((Path(folder) / name).read_text()))

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


class Resumable(Protocol):
    """A part of a run with a state to save, as a dict that JSON can hold."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as this process knows it."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that all processes knew together."""


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
