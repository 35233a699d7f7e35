"""From samples to tensors on the device: worker processes, batches, copies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from ..errors import ProcessStoppedError
from ..workers import become_worker, worker_context
from . import sources
from .replay import Replay, first_step
from .samples import Samples, StepBatches
from .streaming.lanes import StreamedSamples


class Loader(DataLoader[dict[str, Any]]):
    """A loader that reports in one line that a worker was killed.

    Raises:
        ProcessStoppedError: A worker was killed, which shows when its samples fail to arrive.
    """

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except (RuntimeError, EOFError, ConnectionError) as error:
            if isinstance(error, RuntimeError):
                is_killed = str(error).startswith("DataLoader worker (pid")
            else:  # an error of a pipe, or one that a worker raised and torch passes on
                is_killed = not str(error).startswith("Caught")
            if not is_killed:
                raise
            raise ProcessStoppedError(
                "a loader's worker was killed, perhaps for want of memory (fewer data.num_workers "
                "need less); --resume auto resumes from the last checkpoint, if there is one"
            ) from error


def make_loader(
    samples: Samples | StreamedSamples,
    batches: Sequence[list[int]] | StepBatches,
    num_workers: int,
    pin_memory: bool,
) -> DataLoader[dict[str, Any]]:
    """Create a loader of samples, in the order of the batches.

    Args:
        samples: The samples of a run.
        batches: The sample numbers of each batch.
        num_workers: Worker processes; 0 to load in this process.
        pin_memory: Whether to put batches in page-locked memory, for copies to a GPU.
    """
    return Loader(
        samples,
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
    for name in own_modules:
        import_module(name)


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
    """
    clock = samples.clock
    batches = samples.batches(
        first_step(clock, start), stop, chunk_size=chunk_size, rank=rank, world=world
    )
    loader = make_loader(samples, batches, num_workers, pin_memory)
    if not clock.replay:
        return loader
    share = clock.batch_size // world
    return Replay(
        loader, clock, start, chunk_size=chunk_size, share=share, seed=samples.seed, rank=rank
    )


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack the fields of samples; the lists of unreadable images become one list."""
    return {
        name: [line for sample in samples for line in sample[name]]
        if name == "unreadable"
        else torch.stack([torch.as_tensor(sample[name]) for sample in samples])
        for name in samples[0]
    }


def join(chunks: Sequence[Mapping[str, Any]], device: torch.device) -> dict[str, Tensor]:
    """Move the tensors of chunks to the device and join them there."""
    moved = [
        {
            name: value.to(device, non_blocking=True)
            for name, value in chunk.items()
            if name != "unreadable"
        }
        for chunk in chunks
    ]
    if len(moved) == 1:
        return moved[0]
    return {name: torch.cat([chunk[name] for chunk in moved]) for name in moved[0]}
