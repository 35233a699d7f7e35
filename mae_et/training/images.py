"""The images of a run, and the share of them that a process loads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator

from .. import data
from ..config import TrainingConfig
from ..curriculum import as_pair

Chunks = Iterator[dict[str, Any]]
"""Batches of samples as the loader yields them, each a chunk of a step's batch."""


@dataclass(frozen=True, kw_only=True)
class RunImages:
    """The images that a run learns from and is measured on.

    Args:
        train: The training samples, of any number of epochs.
        held_out: The samples to evaluate on.
        chunk_size: Images that a process handles at a time at full size; see `data.split_batch`.
        class_names: The names of the classes by number; empty without labels.
        labels: (images,), the class numbers of the training images; None without labels.
        held_out_labels: Likewise, of the held-out images.
    """

    train: data.Samples | data.StreamedSamples
    held_out: data.Samples
    chunk_size: int
    class_names: Sequence[str] = ()
    labels: Any = None
    held_out_labels: Any = None

    def digest(self) -> str:
        """Return digests of the images to train on, those to evaluate on, and the training labels.

        They are joined by "-"; those of images are of their number, names and sizes.
        """
        parts = [data.digest_images(samples.images) for samples in (self.train, self.held_out)]
        if self.labels is not None:
            parts.append(_digest(self.labels))
        return "-".join(parts)

    def held_out_digest(self) -> str | None:
        """Return a digest of the labels to evaluate on, None without labels."""
        return None if self.held_out_labels is None else _digest(self.held_out_labels)

    def num_chunks(self, config: TrainingConfig, accelerator: Accelerator) -> int:
        """Return the number of chunks of a batch that a process handles."""
        world: int = accelerator.num_processes
        return config.optim.batch_size // world // self.chunk_size

    def load_steps(
        self, config: TrainingConfig, accelerator: Accelerator, start: int, stop: int
    ) -> Iterable[dict[str, Any]]:
        """Load this process's chunks of the steps start … stop - 1.

        Args:
            config: The run.
            accelerator: The accelerator of this process.
            start: The first step.
            stop: The step before which to end.
        """
        return data.load_steps(
            self.train,
            start,
            stop,
            chunk_size=self.chunk_size,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            num_workers=config.data.num_workers,
            pin_memory=accelerator.device.type == "cuda",
            max_wait=config.data.max_wait,
        )

    def load_held_out(
        self, config: TrainingConfig, accelerator: Accelerator
    ) -> Iterable[dict[str, Any]]:
        """Load this process's share of the held-out images, each image once.

        Args:
            config: The run.
            accelerator: The accelerator of this process.
        """
        rank, world = accelerator.process_index, accelerator.num_processes
        batches = data.process_batches(len(self.held_out), self.chunk_size, rank, world)
        pin_memory = accelerator.device.type == "cuda"
        return data.make_loader(
            self.held_out, batches, config.data.num_workers, pin_memory, config.data.max_wait
        )

    def check_shared_memory(self, config: TrainingConfig, accelerator: Accelerator) -> None:
        """Warn if the batches of this machine's workers may not fit into its shared memory.

        Args:
            config: The run.
            accelerator: The accelerator of this process.
        """
        if config.data.num_workers and accelerator.is_local_main_process:
            workers = config.data.num_workers * data.processes_here(accelerator.num_processes)
            height, width = as_pair(config.model.image_size)
            batch_bytes = self.chunk_size * config.model.in_chans * height * width  # of 8 bits
            data.check_shared_memory(batch_bytes, workers)


def _digest(labels: Any) -> str:
    return hashlib.blake2b(labels.tobytes(), digest_size=16).hexdigest()
