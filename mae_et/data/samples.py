"""The samples of a run, numbered from its beginning to its end.

The number k of a sample (0, 1, 2, …) determines its epoch (k // images), its image (that epoch's
permutation) and all of its randomness (generators seeded by the run's seed and k). Optimizer step t
uses the samples t·G … (t+1)·G - 1 for a global batch of G, split over the processes. So what a step
sees does not depend on the number of workers, processes or restarts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from ..errors import ProcessStoppedError
from .clock import SampleClock
from .images import AnyImage, UnreadableImageError
from .mixture import Mixture

MAX_TRIES = 1000
"""Images that are tried for one sample before the run stops."""

Transform = Callable[[AnyImage, int, int], dict[str, Any]]
"""(image, its row, sample number) -> the fields of a sample.

Random numbers come from the global generators.
"""


class Images(Protocol):
    """Images that can be read in any order."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> AnyImage: ...
    def name(self, index: int) -> str:
        """Return the file of an image, or another name for it."""


class Samples(Dataset[dict[str, Any]]):
    """Sample number -> sample, for the whole run.

    An unreadable image is replaced by another one of the epoch, which depends on the seed, the
    sample number and the try. The sample's "unreadable" field lists the (name, reason) of every
    image that could not be read.

    Args:
        images: The images of an epoch.
        transform: Makes a sample of an image.
        seed: Seed of the order and of the transforms.
        shuffle: Whether each epoch has a different order; otherwise sample k is image k % images.
        clock: Tells which samples a step takes; None if the samples are not used for training.
    """

    def __init__(
        self,
        images: Images,
        transform: Transform,
        seed: int,
        *,
        shuffle: bool = True,
        clock: SampleClock | None = None,
    ) -> None:
        self.images = images
        self.transform = transform
        self.seed = seed
        self.shuffle = shuffle
        self.clock = clock or SampleClock(1)
        self._epoch_order: tuple[int, Any] = (-1, None)
        self._torch_alone = draws_from_torch_alone(transform, images)

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, start: int, stop: int, **options: int) -> StepBatches:
        """Return the sample numbers of the chunks of the steps start … stop - 1.

        Args:
            start: The first step.
            stop: The step after the last one.
            options: Further arguments of `StepBatches`.
        """
        return StepBatches(start, stop, clock=self.clock, **options)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Make a sample by its number.

        Raises:
            ProcessStoppedError: MAX_TRIES images could not be read.
        """
        index = self.image_index(number)
        unreadable: dict[str, str] = {}
        for attempt in range(MAX_TRIES):
            seed_generators(self.seed, number, torch_alone=self._torch_alone)
            try:
                sample = self.transform(self.images[index], index, number)
            except UnreadableImageError as error:
                unreadable[error.name] = error.reason
                # Not the next image, which would be shown for each of a series of bad ones.
                other = np.random.default_rng([self.seed, 5, number, attempt])
                first = number - number % len(self)
                index = self.image_index(first + int(other.integers(len(self))))
            else:
                return {**sample, "unreadable": list(unreadable.items())}
        example = ": ".join(next(iter(unreadable.items())))
        raise ProcessStoppedError(
            f"data.path must hold images, got none readable; first: {example}"
        )

    def image_index(self, number: int) -> int:
        """Return the row of the data set that sample `number` shows."""
        epoch, position = divmod(number, len(self))
        return int(self._order(epoch)[position]) if self.shuffle else position

    def _order(self, epoch: int) -> Any:
        if self._epoch_order[0] != epoch:
            order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self))
            if isinstance(self.images, Mixture):
                order = self.images.rows_of(epoch, self.seed)[order]
            self._epoch_order = (epoch, order)
        return self._epoch_order[1]


def draws_from_torch_alone(transform: Transform, images: Images | None = None) -> bool:
    """Return whether samples need no seeds of Python's and NumPy's generators.

    Args:
        transform: The transform; its attribute `torch_alone` says so.
        images: The images, unless they are read elsewhere; those that may run the user's code while
            they are read need all seeds.
    """
    runs_user_code = images is not None and getattr(images, "runs_user_code", True)
    return getattr(transform, "torch_alone", False) and not runs_user_code


def seed_generators(*key: int, torch_alone: bool = False) -> None:
    """Seed the CPU generators of Python, NumPy and torch, from which image transforms draw.

    Args:
        key: Numbers that determine the seed together.
        torch_alone: Whether to leave out Python's and NumPy's.
    """
    words = np.random.SeedSequence(key).generate_state(4)
    if not torch_alone:
        random.seed(int(words[0]))
        np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]) << 32 | int(words[3]))


class StepBatches:
    """The sample numbers of each chunk of one process, for a range of steps.

    Every batch of a step has the same number of chunks. They hold `chunk_size` samples each, or
    fewer in steps that take fewer samples from the data.

    Args:
        start: The first step.
        stop: The step after the last one.
        clock: Tells which samples a step takes.
        chunk_size: Images that a process handles at a time at full size.
        rank: The number of the process.
        world: Number of processes.
    """

    def __init__(
        self,
        start: int,
        stop: int,
        *,
        clock: SampleClock,
        chunk_size: int,
        rank: int,
        world: int,
    ) -> None:
        self.steps, self.clock = range(start, stop), clock
        self.rank, self.world = rank, world
        self.chunks_per_batch = clock.batch_size // world // chunk_size

    def __len__(self) -> int:
        batches = self.clock.num_batches(self.steps.start, self.steps.stop)
        return batches * self.chunks_per_batch

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            samples = self.clock.samples(step)
            share = len(samples) // self.world
            size = share // (self.clock.batches(step) * self.chunks_per_batch)
            first = samples.start + self.rank * share
            for start in range(first, first + share, size):
                yield list(range(start, start + size))


def split_batch(
    batch_size: int, micro_batch_size: int | None, world: int, multiple: int = 1
) -> int:
    """Choose the chunk size: the images that one process handles at a time at full size.

    It is the largest number up to `micro_batch_size` that divides a process's share of the batch.

    Args:
        batch_size: Images of a step, over all processes.
        micro_batch_size: The most images that fit; None for the whole share.
        world: Number of processes.
        multiple: A number of which the chunk size has to be a multiple.

    Raises:
        ValueError: The number of processes does not divide the batch, or no chunk size fits.
    """
    if batch_size % world:
        raise ValueError(
            f"optim.batch_size must be a multiple of the {world} processes, got {batch_size}"
        )
    share = batch_size // world
    most = min(share, micro_batch_size or share)
    sizes = [size for size in range(multiple, most + 1, multiple) if share % size == 0]
    if not sizes:
        raise ValueError(
            f"optim.batch_size {batch_size} over {world} processes and optim.micro_batch_size "
            f"{micro_batch_size} must allow chunks of a multiple of {multiple} images"
        )
    return sizes[-1]


def process_batches(num_samples: int, batch_size: int, rank: int, world: int) -> list[list[int]]:
    """Divide the samples 0 … num_samples - 1 among processes, so that each sample comes up once.

    Args:
        num_samples: Number of samples.
        batch_size: The most samples of a batch.
        rank: The number of this process.
        world: Number of processes.

    Returns:
        The sample numbers of each batch of this process: rank, rank + world, …
    """
    mine = range(rank, num_samples, world)
    return [list(mine[start : start + batch_size]) for start in range(0, len(mine), batch_size)]
