"""Accelerate as the engine: device, precision, processes and trackers of a run."""

from __future__ import annotations

import importlib.util

from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from .config import RunConfig, flatten, to_dict


def make_accelerator(run: RunConfig) -> Accelerator:
    """The accelerator of this process.

    Raises:
        ValueError: the precision or the tracker is not to be had here.
    """
    tracker: str | None = run.tracker
    if tracker == "auto":
        tracker = "tensorboard" if importlib.util.find_spec("tensorboard") else None
    elif tracker == "none":
        tracker = None
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)
    return Accelerator(
        mixed_precision=run.mixed_precision,
        log_with=tracker,
        project_dir=run.output_dir,
        kwargs_handlers=[ddp],
    )


def start_trackers(accelerator: Accelerator, config: object) -> None:
    """Start the run's trackers, with every field of its configuration."""
    fields = {
        name: value if isinstance(value, int | float | str) else str(value)
        for name, value in flatten(to_dict(config)).items()
    }
    accelerator.init_trackers("tracker", config=fields)
