"""Accelerate as the engine: device, precision, processes and trackers of a run."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from accelerate import Accelerator, DistributedType, PartialState
from accelerate.tracking import GeneralTracker, get_available_trackers
from accelerate.utils import (
    DistributedDataParallelKwargs,
    InitProcessGroupKwargs,
    gather_object,
    patch_environment,
)

from ..config import RunConfig, flatten, to_dict
from ..errors import ProcessStoppedError, RunInterruptedError
from .fsdp import LAUNCH_FLAG, is_asked_for, launch_settings

Result = TypeVar("Result")


REFUSED = (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


def make_accelerator(run: RunConfig, *, allow_fsdp: bool = False) -> Accelerator:
    """The accelerator of this process, which on a CPU keeps freed memory from now on.

    Args:
        run: the run.
        allow_fsdp: whether the launch configuration may ask for FSDP.

    Raises:
        ValueError: the precision, the tracker or the way of distributing is not to be had here.
    """
    tracker: str | None = run.tracker
    if tracker == "auto":
        tracker = "tensorboard" if importlib.util.find_spec("tensorboard") else None
    elif tracker == "none":
        tracker = None
    available = [str(name) for name in get_available_trackers()]
    if tracker is not None and tracker not in available:
        raise ValueError(
            f"run.tracker must be auto, none or an installed one "
            f"({', '.join(available) or 'none is'}), got {tracker!r}"
        )
    if is_asked_for():
        if not allow_fsdp:
            raise ValueError("the launch configuration must not ask for FSDP but in pretraining")
        launch_settings()  # its errors
    with patch_environment(**{LAUNCH_FLAG: "false"}):  # see `mae_et.training.fsdp`
        accelerator = Accelerator(
            mixed_precision=run.mixed_precision,
            log_with=tracker,
            project_dir=run.output_dir,
            kwargs_handlers=[
                DistributedDataParallelKwargs(
                    broadcast_buffers=False, gradient_as_bucket_view=True
                ),
                # The first process may read a large data set for long while the others wait.
                InitProcessGroupKwargs(timeout=timedelta(hours=2)),
            ],
        )
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "fp16":
        raise ValueError("run.mixed_precision must be no or bf16 on a CPU, got 'fp16'")
    if accelerator.mixed_precision == "fp16" and is_asked_for():
        raise ValueError("run.mixed_precision must be no or bf16 with FSDP, got 'fp16'")
    if accelerator.distributed_type in REFUSED:
        raise ValueError(
            f"the launch configuration must not ask for {accelerator.distributed_type.value}; to "
            "share out a model that does not fit one device, pretrain with FSDP 2"
        )
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    return accelerator


def main_process_first(accelerator: Accelerator, work: Callable[[], Result]) -> Result:
    """Do something in the main process, which may fill a cache, and then in all others.

    Raises:
        ValueError: in every process, if the work raised one, or stopped, in any.
    """
    results: list[Result] = []
    for is_main_turn in (True, False):
        errors: list[str] = []
        if accelerator.is_main_process == is_main_turn:
            try:
                results = [work()]
            except (ValueError, ProcessStoppedError) as error:
                errors = [str(error)]
        for first_error in gather_object(errors):
            raise ValueError(first_error)
    return results[0]


def start_trackers(accelerator: Accelerator, config: object, folder: Path) -> list[GeneralTracker]:
    """Start the run's trackers, with every field of its configuration."""
    fields = {
        name: value if isinstance(value, int | float | str) else str(value)
        for name, value in flatten(to_dict(config)).items()
    }
    accelerator.init_trackers("mae-et", fields, {"wandb": {"name": folder.name}})
    return list(accelerator.trackers)


@contextmanager
def leaving() -> Iterator[None]:
    """A command that parts from the other processes where all of them come.

    That is at its end, or after an interruption; else its exit code would be a matter of luck,
    since threads that still wait for the others may abort the process.
    """
    try:
        yield
    except RunInterruptedError:
        PartialState().destroy_process_group()
        raise
    PartialState().destroy_process_group()


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Options of mallopt, as malloc.h numbers them."""


def keep_freed_memory() -> None:
    """From now on, this process keeps its peak, and what fragments."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_TRIM_THRESHOLD, -1)
        libc.mallopt(M_MMAP_MAX, 0)
