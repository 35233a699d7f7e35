"""One sample stream for the whole run.

Sample number k of the run (0, 1, 2, …) determines its epoch (k // images), its image (that epoch's
permutation) and all of its randomness (generators seeded by the run's seed and k). Optimizer step t
uses the samples t·G … (t+1)·G - 1 for a global batch of G, split over the processes. So what a step
sees depends on no number of workers, processes or restarts.
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
from .images.encoded import UnreadableImageError
from .images.table import AnyImage
from .mixture import Mixture

MAX_TRIES = 1000


Transform = Callable[[AnyImage, int, int], dict[str, Any]]
"""(image, its row, sample number) -> a sample's fields, drawing from the global generators."""


class Images(Protocol):
    """Images of random access."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> AnyImage: ...
    def name(self, index: int) -> str:
        """The file of an image, or what else it is called."""


class Samples(Dataset[dict[str, Any]]):
    """Sample number -> sample, for the whole run.

    An unreadable image is replaced by another one of the epoch, which seed, sample number and try
    decide. The sample's "unreadable" field has the (name, reason) of each that was tried.

    Args:
        images: the images of an epoch.
        transform: makes the sample of an image.
        seed: of the order and of the transforms.
        shuffle: whether each epoch has its own order; else sample k is image k % images.
        clock: says which samples a step takes; None if they are never used for training.
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

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, start: int, stop: int, **options: int) -> StepBatches:
        """The chunks of the steps start … stop - 1; see `StepBatches`."""
        return StepBatches(start, stop, clock=self.clock, **options)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """
        Raises:
            ProcessStoppedError: MAX_TRIES images could not be read.
        """
        index = self.image_index(number)
        unreadable: dict[str, str] = {}
        for attempt in range(MAX_TRIES):
            seed_generators(self.seed, number)
            try:
                sample = self.transform(self.images[index], index, number)
            except UnreadableImageError as error:
                unreadable[error.name] = error.reason
                # not the next one, which would be shown as often as a row of bad ones is long
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
        """The data set's row that sample `number` shows."""
        epoch, position = divmod(number, len(self))
        return int(self._order(epoch)[position]) if self.shuffle else position

    def _order(self, epoch: int) -> Any:
        if self._epoch_order[0] != epoch:
            order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self))
            if isinstance(self.images, Mixture):
                order = self.images.rows_of(epoch, self.seed)[order]
            self._epoch_order = (epoch, order)
        return self._epoch_order[1]


def seed_generators(*key: int) -> None:
    """Seed the CPU generators of Python, NumPy and torch, which image transforms draw from."""
    words = np.random.SeedSequence(key).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]) << 32 | int(words[3]))


class StepBatches:
    """The sample numbers of each chunk, for one process, from one step to another.

    Every step has the same number of chunks: the process's share of its samples, cut into chunks
    of `chunk_size`, or of the part of it that the clock leaves.
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
        self.chunks_per_step = clock.batch_size // world // chunk_size

    def __len__(self) -> int:
        return len(self.steps) * self.chunks_per_step

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            samples = self.clock.samples(step)
            share = len(samples) // self.world
            size = share // self.chunks_per_step
            first = samples.start + self.rank * share
            for start in range(first, first + share, size):
                yield list(range(start, start + size))


def split_batch(
    batch_size: int, micro_batch_size: int | None, world: int, multiple: int = 1
) -> int:
    """The chunk size: images that one process handles at a time at full size.

    The largest number up to `micro_batch_size` that divides a process's share of the batch.

    Args:
        batch_size: images of a step, over all processes.
        micro_batch_size: the most that fit; None for the whole share.
        world: processes.
        multiple: the chunk size has to be a multiple of this.

    Raises:
        ValueError: the processes do not divide the batch, or the chunk size would be none.
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
    """Batches of this process's share of the samples 0 … num_samples - 1, each sample once."""
    mine = range(rank, num_samples, world)
    return [list(mine[start : start + batch_size]) for start in range(0, len(mine), batch_size)]
