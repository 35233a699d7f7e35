"""From samples to tensors on the device: worker processes, batches, copies."""

from __future__ import annotations

import errno
import logging
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import torch
from PIL import Image
from torch import Tensor
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, Dataset, default_collate
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from ..errors import ProcessStoppedError
from ..waiting import loader_wait
from ..workers import become_worker, kill_workers, worker_context
from . import sources
from .found import warn_of_workers
from .replay import Replay, first_step
from .samples import Samples
from .streaming.lanes import StreamedSamples

log = logging.getLogger(__name__)

MAX_WAIT = 1800.0
"""The default of data.max_wait, in seconds."""

SHARED_MEMORY = Path("/dev/shm")
"""Where workers put the batches that they hand over, on Linux; small by default in containers."""

MORE_SHARED_MEMORY = (
    "start the container with a larger --shm-size or with --ipc=host, or use fewer "
    "data.num_workers or none (--data.num_workers 0)"
)

TOO_MANY_FILES = ("Too many open files", "items of ancdata")
"""What the system and Python say when a process may open no further file."""


# Where an iterator cannot be built, for want of shared memory, there is nothing to shut down; torch
# would print an error about it below ours.
_MultiProcessingDataLoaderIter._shutdown = True


RESUME = "--resume auto resumes from the last checkpoint, if there is one"
"""What to do after a loader has failed in a run."""


class Loader(DataLoader[Any]):
    """A loader that reports in one line that it cannot hand over its batches.

    Args:
        dataset: The samples.
        max_wait: Seconds to wait for a batch; None for no limit.
        advice: What to do if it fails, for messages.
        options: Further arguments of `DataLoader`.

    Raises:
        ProcessStoppedError: A worker was killed, or failed to hand over a batch, or the wait was
            too long.
        RunInterruptedError: The run was asked to stop, and the next batch did not arrive in time.
    """

    def __init__(
        self, dataset: Any, *, max_wait: float | None, advice: str = RESUME, **options: Any
    ) -> None:
        super().__init__(dataset, **options)
        self.max_wait, self.advice = max_wait, advice

    def check_worker_number_rationality(self) -> None:
        """Say in a line what torch says in several, with the path of a file."""
        warn_of_workers(self.num_workers)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        chunks: Any = None
        try:
            with loader_wait.limited(self.max_wait):  # it reads ahead in a stream at once
                chunks = super().__iter__()
            while True:
                with loader_wait.limited(self.max_wait):
                    chunk = next(chunks, None)
                if chunk is None:
                    return
                yield chunk
        except Exception as error:
            workers = getattr(chunks, "_workers", [])
            problem = _problem(error, workers) if self.num_workers else None
            kill_workers(workers)  # else each one that hangs would be waited for
            if problem is None:
                raise
            raise ProcessStoppedError(f"{problem}. {self.advice}") from error


def _problem(error: Exception, workers: Sequence[BaseProcess]) -> str | None:
    """Say why a batch was not handed over; return None if this is no matter of handing over."""
    text, codes = str(error), {getattr(error, "errno", None)}
    is_of_pipe = isinstance(error, EOFError | ConnectionError) and not text.startswith("Caught")
    is_killed = is_of_pipe or text.startswith("DataLoader worker (pid")
    if is_killed:
        wait([worker.sentinel for worker in workers], 1.0)  # their codes may come a little later
        codes |= {worker.exitcode for worker in workers}
    if codes & {errno.ENOSPC, -signal.SIGBUS} or "allocate shared memory" in text:
        return (
            f"no shared memory is left to hand over images{_shared_memory()}: {MORE_SHARED_MEMORY}"
        )
    if errno.EMFILE in codes or any(sign in text for sign in TOO_MANY_FILES):
        return (
            "too many files are open to hand over images: raise `ulimit -n` (it is "
            f"{resource.getrlimit(resource.RLIMIT_NOFILE)[0]}) or use fewer data.num_workers"
        )
    if is_killed:
        return (
            "a loader's worker was killed, perhaps for want of memory (fewer data.num_workers "
            "need less)"
        )
    return None  # mostly an error that a worker raised and torch passes on: "Caught …"


def _shared_memory() -> str:
    if not SHARED_MEMORY.is_dir():
        return ""
    space = shutil.disk_usage(SHARED_MEMORY)
    return f" ({SHARED_MEMORY}: {space.free >> 20} of {space.total >> 20} MiB are free)"


def check_shared_memory(batch_bytes: int, num_workers: int) -> None:
    """Warn if the batches that workers prepare may not fit into shared memory.

    Each worker prepares two, and one is in use.

    Args:
        batch_bytes: The size of a batch.
        num_workers: Workers of all processes on this machine.
    """
    needed = (2 * num_workers + 1) * batch_bytes
    if SHARED_MEMORY.is_dir() and needed > shutil.disk_usage(SHARED_MEMORY).free:
        log.warning(
            "%d workers may need %d MiB of shared memory%s: %s",
            num_workers,
            needed >> 20,
            _shared_memory(),
            MORE_SHARED_MEMORY,
        )


def make_loader(
    samples: Dataset[dict[str, Any]],
    batches: Iterable[list[int]],
    num_workers: int,
    pin_memory: bool,
    max_wait: float | None = MAX_WAIT,
) -> Loader:
    """Create a loader of samples, in the order of the batches.

    Args:
        samples: The samples of a run, or others with such fields; see `collate`.
        batches: The sample numbers of each batch.
        num_workers: Worker processes; 0 to load in this process.
        pin_memory: Whether to put batches in page-locked memory, for copies to a GPU.
        max_wait: Seconds to wait for a batch; None for no limit.
    """
    return Loader(
        samples,
        max_wait=max_wait,
        batch_sampler=batches,
        pin_memory=pin_memory,
        collate_fn=collate,
        **worker_options(num_workers),
    )


def worker_options(num_workers: int) -> dict[str, Any]:
    """Return the arguments of a `DataLoader` that concern its workers."""
    return {
        "num_workers": num_workers,
        "multiprocessing_context": worker_context() if num_workers else None,
        "worker_init_fn": partial(
            _init_worker, sorted(sources.own_modules), Image.MAX_IMAGE_PIXELS
        ),
    }


def _init_worker(own_modules: Iterable[str], max_pixels: float | None, _worker: int) -> None:
    become_worker()
    Image.MAX_IMAGE_PIXELS = max_pixels  # type: ignore[assignment]  # see `allow_pixels`
    Queue._on_queue_feeder_error = _pass_on  # type: ignore[attr-defined]
    sys.excepthook = _end_worker
    for name in own_modules:
        import_module(name)


def _pass_on(queue: Queue[Any], error: Exception, item: object) -> None:
    """Hand over the error that kept a thread of this worker from handing over a batch.

    Python would print it and go on, and the run would wait for the batch for ever.
    """
    if not isinstance(item, tuple):  # already in bytes: nobody can tell which batch it was
        _end_worker(type(error), error, error.__traceback__)
    index, _ = item
    wrapper: Any = ExceptionWrapper  # which has no types
    cause = (type(error), error, error.__traceback__)
    queue.put((index, wrapper(cause, "in handing over a worker's batch")))


def _end_worker(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> NoReturn:
    """End this worker, which cannot hand over batches any more; its code tells why.

    So ends the thread that hands over shared memory, which would go on printing its error.
    """
    traceback.print_exception(kind, error, trace)
    os._exit(getattr(error, "errno", None) or 1)


def load_steps(
    samples: Samples | StreamedSamples,
    start: int,
    stop: int,
    *,
    chunk_size: int,
    rank: int,
    world: int,
    num_workers: int,
    pin_memory: bool,
    max_wait: float | None = MAX_WAIT,
) -> Iterable[dict[str, Any]]:
    """Load the chunks of the steps start … stop - 1 for one process.

    Args:
        samples: The samples of the run.
        start: The first step.
        stop: The step after the last one.
        chunk_size: Images of a chunk, those that a replay buffer adds included.
        rank: The number of the process.
        world: Number of processes.
        num_workers: Worker processes of the loader; 0 to load in this process.
        pin_memory: Whether to put chunks in page-locked memory, for copies to a GPU.
        max_wait: Seconds to wait for a chunk; None for no limit.
    """
    clock = samples.clock
    batches = samples.batches(
        first_step(clock, start), stop, chunk_size=chunk_size, rank=rank, world=world
    )
    loader = make_loader(samples, batches, num_workers, pin_memory, max_wait)
    if not clock.replay:
        return loader
    share = clock.batch_size // world
    return Replay(
        loader, clock, start, chunk_size=chunk_size, share=share, seed=samples.seed, rank=rank
    )


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack the fields of samples; lists, as of unreadable images, become one list."""
    return {
        name: [line for sample in samples for line in sample[name]]
        if isinstance(samples[0][name], list)
        else _stack([torch.as_tensor(sample[name]) for sample in samples])
        for name in samples[0]
    }


def _stack(fields: list[Tensor]) -> Tensor:
    """Stack tensors, in a worker in the shared memory in which it hands them over."""
    if len({field.dtype for field in fields}) > 1:
        return torch.stack(fields)  # which finds the type that holds them all
    stacked: Tensor = default_collate(fields)
    return stacked


def join(chunks: Sequence[Mapping[str, Any]], device: torch.device) -> dict[str, Tensor]:
    """Move the tensors of chunks to the device and join them there."""
    moved = [
        {
            name: value.to(device, non_blocking=True)
            for name, value in chunk.items()
            if isinstance(value, Tensor)
        }
        for chunk in chunks
    ]
    if len(moved) == 1:
        return moved[0]
    return {name: torch.cat([chunk[name] for chunk in moved]) for name in moved[0]}
