"""Set up accelerate as the engine: the device, precision, processes and trackers of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from accelerate import Accelerator, DistributedType, PartialState
from accelerate.state import AcceleratorState
from accelerate.tracking import GeneralTracker, get_available_trackers
from accelerate.utils import (
    DistributedDataParallelKwargs,
    InitProcessGroupKwargs,
    gather_object,
    patch_environment,
)

from ..config import RunConfig, flatten, to_dict
from ..errors import ProcessStoppedError, RunInterruptedError, is_installed
from ..glibc import M_MMAP_MAX, M_TRIM_THRESHOLD, set_allocator
from .environment import check_environment, own_settings, warn_of_overridden
from .fsdp import LAUNCH_FLAG, fsdp_requested, launch_settings

Result = TypeVar("Result")


def make_accelerator(run: RunConfig, *, allow_fsdp: bool = False) -> Accelerator:
    """Make the accelerator of this process; on a CPU, the process keeps freed memory from now on.

    Args:
        run: The section `run` of the configuration.
        allow_fsdp: Whether the launch configuration may ask for FSDP.

    Raises:
        ValueError: The precision, the tracker or the way of distributing is not available here.
    """
    tracker = _tracker(run.tracker)
    check_environment(run.mixed_precision)
    if fsdp_requested():
        if not allow_fsdp:
            raise ValueError("the launch configuration must not ask for FSDP but in pretraining")
        launch_settings()  # raises its errors
    AcceleratorState._reset_state()  # else a run in a notebook has the precision of the last one
    # For FSDP, see `mae_et.training.fsdp`.
    with patch_environment(**own_settings(), **{LAUNCH_FLAG: "false"}):
        accelerator = Accelerator(
            mixed_precision=run.mixed_precision,
            log_with=tracker,
            project_dir=run.output_dir,
            kwargs_handlers=[
                DistributedDataParallelKwargs(
                    broadcast_buffers=False, gradient_as_bucket_view=True
                ),
                # The first process may spend long reading a large data set while the others wait.
                InitProcessGroupKwargs(timeout=timedelta(hours=2)),
            ],
        )
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "fp16":
        raise ValueError("run.mixed_precision must be no or bf16 on a CPU, got 'fp16'")
    if accelerator.mixed_precision == "fp16" and fsdp_requested():
        raise ValueError("run.mixed_precision must be no or bf16 with FSDP, got 'fp16'")
    if accelerator.distributed_type == DistributedType.XLA:
        raise ValueError("the launch configuration must not ask for a TPU, which nobody has tried")
    if accelerator.is_main_process:
        warn_of_overridden()
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    return accelerator


def _tracker(name: str) -> str | None:
    """Return accelerate's name for a tracker, or None for no tracker.

    Raises:
        ValueError: The tracker is not installed.
    """
    if name == "none":
        return None
    if name == "auto":
        return "tensorboard" if is_installed("tensorboard") else None
    available = [str(one) for one in get_available_trackers()]
    if not (is_installed("tensorboard") or is_installed("tensorboardX")):
        available = [one for one in available if one != "tensorboard"]  # a folder of that name
    if name not in available:
        raise ValueError(
            f"run.tracker must be auto, none or an installed one "
            f"({', '.join(available) or 'none is'}), got {name!r}"
        )
    return name


def main_process_first(accelerator: Accelerator, work: Callable[[], Result]) -> Result:
    """Do some work in the main process, which may fill a cache, and then in all others.

    Args:
        accelerator: The accelerator of this process.
        work: What to do, in every process.

    Returns:
        The result of the work in this process.

    Raises:
        ValueError: The work raised one, or stopped, in any process; every process raises it.
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


def start_trackers(
    accelerator: Accelerator, config: object, folder: Path, step: int
) -> list[GeneralTracker]:
    """Start the run's trackers, with every field of its configuration.

    Args:
        accelerator: The accelerator of this process.
        config: The run.
        folder: The run folder, whose name some trackers show.
        step: The number of steps taken before; TensorBoard forgets what a killed run logged later.
    """
    fields = {
        name: value if isinstance(value, int | float | str) else str(value)
        for name, value in flatten(to_dict(config)).items()
    }
    options = {"wandb": {"name": folder.name}, "tensorboard": {"purge_step": step + 1}}
    accelerator.init_trackers("mae-et", fields, options)
    return list(accelerator.trackers)


@contextmanager
def leaving() -> Iterator[None]:
    """Leave the process group where all processes do: at the end, or after an interruption.

    Otherwise the exit code would be a matter of luck, since threads that still wait for other
    processes may abort this one.
    """
    try:
        yield
    except RunInterruptedError:
        PartialState().destroy_process_group()
        raise
    PartialState().destroy_process_group()


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next step; where there is no glibc, nothing changes.

    By default it returns large blocks to the system and gets them back page by page, zeroed, in
    every step. In exchange, the process keeps its peak memory and whatever fragments.
    """
    set_allocator({M_TRIM_THRESHOLD: -1, M_MMAP_MAX: 0})
