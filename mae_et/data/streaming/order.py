"""Which rows of a stream belong to which sample: a pure function, as far as lengths are known.

A stream is read in parallel *lanes*, each of a different share of the shards (files), so that not
every process has to read everything. Every step takes equally many samples from each lane.

If the number of rows of every shard is known, the shards of an epoch are put in a random order, one
after the other, and cut into equal lanes, if need be within a shard: the samples e·N … (e+1)·N - 1
are the N rows of the data set, each once. Otherwise, an epoch deals whole shards out to the lanes;
each lane reads its shards to the end and then starts its next epoch, and the number of rows of
every shard that has been read to its end is remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Span:
    """Consecutive rows of a shard."""

    shard: int
    """The shard's number."""
    first: int
    """The first row."""
    number: int | None
    """How many rows; None for all from the first one on."""


class ShardPlan:
    """The spans of each lane in each epoch.

    Args:
        lengths: Rows of each shard, without those left out; None if unknown.
        left_out: Rows at the beginning of each shard that are not part of the stream.
        num_lanes: Number of lanes, at most the number of shards.
        seed: Seed of the order of the shards.
    """

    def __init__(
        self, lengths: list[int | None], left_out: list[int], num_lanes: int, seed: int
    ) -> None:
        self.is_counted = None not in lengths
        self.lengths, self.left_out = list(lengths), left_out
        self.num_lanes, self.seed = num_lanes, seed

    def locate(self, lane: int, number: int) -> tuple[int, int]:
        """Find the epoch of a lane's sample.

        Args:
            lane: The lane.
            number: The sample's number in the lane (0, 1, …).

        Returns:
            The epoch, and how many samples the lane has in that epoch before this one.
        """
        if self.is_counted:
            epoch = (number * self.num_lanes + lane) // self._num_rows
            return epoch, number - self._start(lane, epoch)
        epoch = 0
        while (rows := self._lane_length(lane, epoch)) is not None and number >= rows:
            number -= rows
            epoch += 1
        return epoch, number

    def spans(self, lane: int, epoch: int, offset: int) -> Iterator[Span]:
        """Return the spans that a lane reads in an epoch, without the first `offset` rows."""
        for span in self._spans(lane, epoch):
            rows = self.lengths[span.shard] if span.number is None else span.number
            passed = offset if rows is None else min(offset, rows)
            offset -= passed
            if rows is None or passed < rows:
                number = None if span.number is None else span.number - passed
                yield Span(shard=span.shard, first=span.first + passed, number=number)

    def _spans(self, lane: int, epoch: int) -> Iterator[Span]:
        if not self.is_counted:
            for shard in self._order(epoch)[lane :: self.num_lanes]:
                yield Span(shard=shard, first=self.left_out[shard], number=None)
            return
        counts = [self._start(i, epoch + 1) - self._start(i, epoch) for i in range(lane + 1)]
        start, stop = sum(counts[:-1]), sum(counts)  # of the lane, in the order of the epoch
        behind = 0
        for shard in self._order(epoch):
            rows = self.lengths[shard] or 0
            first, last = max(start - behind, 0), min(stop - behind, rows)
            if first < last:
                yield Span(shard=shard, first=self.left_out[shard] + first, number=last - first)
            behind += rows

    def _start(self, lane: int, epoch: int) -> int:
        """The lane's first sample of an epoch; its sample n is number n·lanes + lane of the run."""
        return -((lane - epoch * self._num_rows) // self.num_lanes)

    @property
    def _num_rows(self) -> int:
        return sum(rows or 0 for rows in self.lengths)

    def _lane_length(self, lane: int, epoch: int) -> int | None:
        rows = [self.lengths[shard] for shard in self._order(epoch)[lane :: self.num_lanes]]
        return None if None in rows else sum(number or 0 for number in rows)

    def _order(self, epoch: int) -> list[int]:
        order: Any = np.random.default_rng([self.seed, 5, epoch]).permutation(len(self.lengths))
        return order.tolist()  # type: ignore[no-any-return]
