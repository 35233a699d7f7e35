"""The samples of a stream: threads read lanes ahead, and the workers decode the images.

Sample k comes from lane k % L of L lanes. A process takes its share of a step's samples lane by
lane, and so reads only some of the lanes. A lane is read in blocks, which are shuffled. What a step
sees depends on the step alone, not on the number of workers, processes or restarts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset

from ...errors import ProcessStoppedError
from ..clock import SampleClock
from ..images import UnreadableImageError, open_image
from ..samples import StepBatches, Transform, draws_from_torch_alone, seed_generators
from .order import ShardPlan, Span
from .shards import Cell, StreamedImages

MIN_CELLS = 16
"""The fewest images of a chunk, spare ones included, so that some of them can be read."""


class Item(NamedTuple):
    """An image of which a sample is to be made, or a spare one to replace an unreadable one."""

    number: int | None
    """The sample's number; None for a spare image."""
    cell: Cell
    """The image."""


class Lane:
    """The images of one lane, to be taken in ascending order of their numbers 0, 1, … in the lane.

    Args:
        plan: The plan of all lanes.
        read: Reads the images of a span.
        lane: The number of this lane in the plan.
        block_size: Images of a block, which are shuffled among each other; two blocks are held in
            memory.
        pool: Threads that read the next block while one is in use.
    """

    def __init__(
        self,
        plan: ShardPlan,
        read: Callable[[Span], Iterator[Cell]],
        lane: int,
        block_size: int,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.plan, self.read, self.lane = plan, read, lane
        self.block_size, self.pool = block_size, pool
        self.block: list[Cell] = []
        self.first = 0
        self.next_block: Future[list[Cell]] | None = None

    def __getitem__(self, number: int) -> Cell:
        """The lane's image of a number.

        Raises:
            ProcessStoppedError: The lane can't be read, or has no images.
        """
        if self.next_block is None:
            self._seek(number)
        while number >= self.first + len(self.block):
            assert self.next_block is not None
            self.first += len(self.block)
            self.block = self.next_block.result()
            self._read_ahead()
        return self.block[number - self.first]

    def _seek(self, number: int) -> None:
        epoch, offset = self.plan.locate(self.lane, number)
        in_block = offset % self.block_size
        self.first = number - in_block
        self._blocks = self._read_blocks(epoch, offset - in_block)
        self._read_ahead()

    def _read_ahead(self) -> None:
        self.next_block = self.pool.submit(next, self._blocks)

    def _read_blocks(self, epoch: int, offset: int) -> Iterator[list[Cell]]:
        """Yield shuffled blocks for ever, beginning at an offset in an epoch."""
        for current in count(epoch):
            cells = self._read_epoch(current, offset)
            for first in count(offset, self.block_size):
                block = list(islice(cells, self.block_size))
                if not block:
                    break
                key = [self.plan.seed, 6, current, self.lane, first]
                order = np.random.default_rng(key).permutation(len(block))
                yield [block[index] for index in order]
            if first == 0:
                raise ProcessStoppedError(
                    "data.path must hold images in every shard, got none in some"
                )
            offset = 0

    def _read_epoch(self, epoch: int, offset: int) -> Iterator[Cell]:
        for span in self.plan.spans(self.lane, epoch, offset):
            rows = span.first - self.plan.left_out[span.shard]
            for cell in self.read(span):
                rows += 1
                yield cell
            if span.number is None:  # the shard has been read to its end: its length is known now
                self.plan.lengths[span.shard] = rows


class LaneBatches(StepBatches):
    """The items of each chunk of one process, for a range of steps.

    Args:
        steps: The first step, and the step after the last one.
        samples: The samples of the stream.
        batches: Further arguments of `StepBatches`.
    """

    def __init__(self, *steps: int, samples: StreamedSamples, **batches: Any) -> None:
        super().__init__(*steps, clock=samples.clock, **batches)
        self.samples = samples

    def __iter__(self) -> Iterator[list[Any]]:
        """Yield chunk by chunk, while threads read ahead."""
        plan = self.samples.plan
        block_size = max(MIN_CELLS, self.samples.shuffle_buffer // (2 * plan.num_lanes))
        pool = ThreadPoolExecutor(max_workers=min(16, plan.num_lanes))
        lanes = [
            Lane(plan, self.samples.images.read, lane, block_size, pool)
            for lane in range(plan.num_lanes)
        ]
        try:
            for numbers in super().__iter__():
                chunk = []
                samples = self.clock.samples(self.clock.step_of(numbers[0]))
                by_lane = [n for lane in range(len(lanes)) for n in samples[lane :: len(lanes)]]
                for position in range(numbers[0] - samples.start, numbers[-1] + 1 - samples.start):
                    in_lane, place = divmod(by_lane[position], len(lanes))
                    chunk.append(Item(by_lane[position], lanes[place][in_lane]))
                spare = lanes[place].block[: max(0, MIN_CELLS - len(chunk))]
                yield chunk + [Item(None, cell) for cell in spare]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class StreamedSamples(Dataset[dict[str, Any]]):
    """The samples of a stream, made of the items that `LaneBatches` yields.

    An unreadable image is replaced by the next readable one of its chunk, and listed with its
    (name, reason) in the sample's "unreadable" field.

    Args:
        images: The images of the stream.
        transform: Makes a sample of an image.
        seed: Seed of the order and of the transforms.
        clock: Tells which samples a step takes.
        shuffle_buffer: Images that are shuffled among each other, over all processes.
    """

    def __init__(
        self,
        images: StreamedImages,
        transform: Transform,
        seed: int,
        *,
        clock: SampleClock,
        shuffle_buffer: int,
    ) -> None:
        self.images, self.in_chans = images, images.in_chans
        self.transform, self.seed = transform, seed
        self.clock, self.shuffle_buffer = clock, shuffle_buffer
        self.plan = images.plan(clock.divisor, seed)

    def __getstate__(self) -> dict[str, Any]:
        """What a worker needs: it does not read the stream, which may not be picklable."""
        return {name: getattr(self, name) for name in ("in_chans", "transform", "seed")}

    def __len__(self) -> int:
        """The number of images of an epoch."""
        return len(self.images)

    def state_dict(self) -> dict[str, int]:
        """Return the number of rows of each shard that is known; all else follows from the step."""
        known = enumerate(self.plan.lengths)
        return {str(shard): rows for shard, rows in known if rows is not None}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Restore the number of rows of shards that an interrupted run has read to their end.

        Args:
            state: A `state_dict`.
        """
        for shard, rows in state.items():
            self.plan.lengths[int(shard)] = rows

    def batches(self, start: int, stop: int, **options: int) -> LaneBatches:
        """Return the items of the chunks of the steps start … stop - 1.

        Args:
            start: The first step.
            stop: The step after the last one.
            options: Further arguments of `StepBatches`.
        """
        return LaneBatches(start, stop, samples=self, **options)

    def __getitems__(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Make the samples of a chunk."""
        return [
            self._sample((*items[place:], *items[:place]), item.number)
            for place, item in enumerate(items)
            if item.number is not None
        ]

    def _sample(self, items: Sequence[Item], number: int) -> dict[str, Any]:
        """Make a sample of the first item that can be read."""
        unreadable: list[tuple[str, str]] = []
        torch_alone = draws_from_torch_alone(self.transform)
        for item in items:
            seed_generators(self.seed, number, torch_alone=torch_alone)
            try:
                image = open_image(item.cell.value, self.in_chans, item.cell.name)
                sample = self.transform(image, number, number)
            except UnreadableImageError as error:
                unreadable.append((error.name, error.reason))
            else:
                return {**sample, "unreadable": unreadable}
        first = ": ".join(unreadable[0])
        raise ProcessStoppedError(
            f"data.path must hold images, got a chunk without any; first: {first}"
        )
