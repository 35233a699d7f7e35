"""Which rows of a stream belong to which sample: a pure function, as far as lengths are known.

A stream is read in *lanes* that go on side by side, each of its own share of the shards (files),
so that processes need not all read everything. Every step takes equally many samples of each lane.

If the number of rows of every shard is known, an epoch's shards are put in a random order, one
behind the other, and cut into equal lanes, also within a shard: the samples e·N … (e+1)·N - 1 are
the N rows of the data set, each once. If not, an epoch deals whole shards out to the lanes, each
lane goes through its own and then begins its next epoch, and the rows of every shard that has been
read to its end are remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Span:
    """Rows of a shard that follow each other; all from the first one on if there is no number."""

    shard: int
    first: int
    number: int | None


class ShardPlan:
    """The spans of each lane in each epoch.

    Args:
        lengths: rows of each shard, without those left out; None for unknown.
        left_out: rows at the beginning of each shard that are not part of the stream.
        num_lanes: at most the number of shards.
        seed: of the order of the shards.
    """

    def __init__(
        self, lengths: list[int | None], left_out: list[int], num_lanes: int, seed: int
    ) -> None:
        self.is_counted = None not in lengths
        self.lengths, self.left_out = list(lengths), left_out
        self.num_lanes, self.seed = num_lanes, seed

    def locate(self, lane: int, number: int) -> tuple[int, int]:
        """The epoch of a lane's sample `number` (0, 1, …), and the lane's samples of it before."""
        if self.is_counted:
            epoch = (number * self.num_lanes + lane) // self._num_rows
            return epoch, number - self._start(lane, epoch)
        epoch = 0
        while (rows := self._lane_length(lane, epoch)) is not None and number >= rows:
            number -= rows
            epoch += 1
        return epoch, number

    def spans(self, lane: int, epoch: int, offset: int) -> Iterator[Span]:
        """What a lane reads in an epoch, but for the first `offset` rows."""
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
        """The lane's first sample of an epoch: sample n of the lane is number n·lanes + lane."""
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
