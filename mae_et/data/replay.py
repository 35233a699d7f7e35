"""A replay buffer for hosts whose loader can't keep up with small stages (EfficientTrain++).

A step takes some of its images fresh from the loader. The rest it draws, with replacement, from the
images that the process has seen last at this input size in earlier steps: the same crops and flips
with new masks. None of this is saved: a resumed run loads the content of the buffer again, since
the step tells which samples that was.

Source: EfficientTrain++, https://arxiv.org/abs/2405.08768, Section 5.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import count, islice
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from ..config import PretrainConfig
from ..curriculum import Curriculum, as_pair
from ..errors import check
from .clock import ReplaySpan, SampleClock, sample_clock
from .samples import Samples


class Buffer:
    """The last `capacity` images, (capacity, C, h, w): first in, first out.

    Args:
        capacity: The most images that the buffer holds.
        num_added: Images that count as added before.
    """

    def __init__(self, capacity: int, num_added: int = 0) -> None:
        self.capacity = capacity
        self.images: Tensor | None = None
        self.num_added = num_added

    def add(self, images: Tensor) -> None:
        """Add images (n, C, h, w); they replace the oldest ones if the buffer is full."""
        if self.images is None:
            self.images = images.new_empty(self.capacity, *images.shape[1:])
        if images.is_floating_point():  # 8-bit images have the same unit
            self.images = self.images.float()
        places = torch.arange(self.num_added, self.num_added + len(images)) % self.capacity
        self.images[places] = images.to(self.images.dtype)
        self.num_added += len(images)

    def draw(self, number: int, rng: np.random.Generator) -> Tensor:
        """Draw images (number, C, h, w) with replacement."""
        assert self.images is not None
        rows = rng.integers(min(self.num_added, self.capacity), size=number)
        return self.images[torch.from_numpy(rows)]


class Replay:
    """The chunks of one process from a given step on, filled up with images of the buffer.

    Args:
        chunks: Chunks of the samples taken from the data, from `first_step(clock, start)` on.
        clock: Tells which steps use images again.
        start: The step whose chunks come first.
        chunk_size: Images of a filled chunk.
        share: Images of a batch in this process.
        seed: The run's seed.
        rank: The number of this process.
    """

    def __init__(
        self,
        chunks: Iterable[dict[str, Any]],
        clock: SampleClock,
        start: int,
        *,
        chunk_size: int,
        share: int,
        seed: int,
        rank: int,
    ) -> None:
        self.chunks, self.clock, self.start = chunks, clock, start
        self.chunk_size, self.share = chunk_size, share
        self.seed, self.rank = seed, rank

    def __iter__(self) -> Iterator[dict[str, Any]]:
        span, buffer = None, Buffer(0)
        chunks, per_batch = iter(self.chunks), self.share // self.chunk_size
        for step in count(first_step(self.clock, self.start)):
            current = self.clock.span_at(step)
            if current != span:
                span = current
                buffer = self._buffer(span, step) if span else Buffer(0)
            fresh = []
            per_step = per_batch * self.clock.batches(step)
            for place, chunk in enumerate(islice(chunks, per_step)):
                fresh.append(chunk["image"])
                if step >= self.start:
                    yield self._filled(chunk, buffer, (self.seed, 8, step, self.rank, place))
            if not fresh:
                return
            for images in fresh if span else ():
                buffer.add(images)

    def _buffer(self, span: ReplaySpan, step: int) -> Buffer:
        """An empty buffer whose count of added images is that of an uninterrupted run."""
        first, now = (self.clock.samples(number).start for number in (span.start, step))
        num_added = (now - first) * self.share // self.clock.batch_size
        return Buffer(span.batches * self.share, num_added)

    def _filled(
        self, chunk: dict[str, Any], buffer: Buffer, key: tuple[int, ...]
    ) -> dict[str, Any]:
        missing = self.chunk_size - len(chunk["image"])
        if missing == 0:
            return chunk
        rng = np.random.default_rng(key)
        masks = rng.random((missing, chunk["noise"].shape[1]), dtype=np.float32)
        filled = {
            "image": torch.cat([chunk["image"], buffer.draw(missing, rng)]),
            "noise": torch.cat([chunk["noise"], torch.from_numpy(masks)]),
        }
        if chunk["image"].is_pinned():
            filled = {name: tensor.pin_memory() for name, tensor in filled.items()}
        return {**chunk, **filled}


def first_step(clock: SampleClock, start: int) -> int:
    """Return the step from which to load samples so that the buffer is full at `start`.

    Args:
        clock: Tells which steps use images again.
        start: The first step to train.
    """
    span = clock.span_at(start)
    if span is None:
        return start
    step, missing = start, span.batches * clock.batch_size
    while step > span.start and missing > 0:
        step -= 1
        missing -= len(clock.samples(step))
    return step


def replay_spans(
    config: PretrainConfig, curriculum: Curriculum, chunk_size: int
) -> tuple[ReplaySpan, ...]:
    """Return the spans of steps that use images again.

    Args:
        config: The run.
        curriculum: Its stages.
        chunk_size: Images that a process handles at a time at full size.

    Raises:
        ValueError: A size has no stage, or a ratio does not divide the batch or the chunks.
    """
    spans = sample_clock(config, curriculum).replay
    for span in spans:
        allowed = f"a divisor of the {chunk_size} images of a micro-batch (optim.micro_batch_size)"
        check(chunk_size % span.ratio == 0, "data.replay.ratio", span.ratio, allowed)
    return spans


def check_replay(
    config: PretrainConfig,
    curriculum: Curriculum,
    chunk_size: int,
    world: int,
    samples: Samples,
) -> None:
    """Check that ratios divide the micro-batches, and that the buffers fit into memory.

    Args:
        config: The run.
        curriculum: Its stages.
        chunk_size: Images that a process handles at a time at full size.
        world: Number of processes.
        samples: The samples of the run; the first one tells the type of their pixels.

    Raises:
        ValueError: A ratio does not divide, or there is not enough memory.
    """
    for span in replay_spans(config, curriculum, chunk_size):
        here = processes_here(world) / world
        value_bytes = samples[0]["image"].element_size()
        needed = here * replay_bytes(config, curriculum, span) * value_bytes
        free = psutil.virtual_memory().available
        allowed = (
            f"few enough for the {free / 2**30:.1f} GiB that are free on this machine (they need "
            f"{needed / 2**30:.1f})"
        )
        check(needed < free, "data.replay.batches", span.batches, allowed)


def processes_here(world: int) -> int:
    """Return the number of processes on this machine, as far as can be told.

    The launcher says it; without one, as under Slurm, there is one per GPU.

    Args:
        world: Number of processes on all machines.
    """
    one_per_gpu = min(world, max(1, torch.cuda.device_count()))
    return int(os.environ.get("LOCAL_WORLD_SIZE", one_per_gpu))


def replay_bytes(config: PretrainConfig, curriculum: Curriculum, span: ReplaySpan) -> int:
    """Return the bytes of all processes' buffers together, for 8-bit pixels.

    Args:
        config: The run.
        curriculum: Its stages.
        span: The steps that use the buffers.
    """
    is_small = config.data.downsample == "loader"
    size = curriculum.stage_at(span.start).size if is_small else curriculum.full_size
    height, width = as_pair(size)
    images = span.batches * config.optim.batch_size
    return images * config.model.in_chans * height * width
