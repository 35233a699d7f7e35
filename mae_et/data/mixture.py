"""Several data sets as one: their rows one after the other, drawn by weight."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from ..errors import check
from .images import AnyImage, ImageTable


class Mixture:
    """The images of several data sets.

    Args:
        tables: The images of each data set.
        weights: Each table's share of the samples, in any unit; None to weigh tables by their
            number of images, so that an epoch shows every image once.

    Raises:
        ValueError: A table would have no sample in an epoch.
    """

    def __init__(
        self, tables: Sequence[ImageTable], weights: Sequence[float] | None = None
    ) -> None:
        self.tables = tables
        self.ends = list(accumulate(len(table) for table in tables))
        self.counts = [len(table) for table in tables]
        if weights is not None:
            shares = np.cumsum(weights) / sum(weights)
            self.counts = np.diff(np.rint(shares * len(self)), prepend=0).astype(int).tolist()
            allowed = f"weights that give each at least one of the {len(self)} samples of an epoch"
            check(min(self.counts) > 0, "data.sources", list(weights), allowed)

    def __len__(self) -> int:
        """The number of images of all tables, which is also that of samples of an epoch."""
        return self.ends[-1]

    def __getitem__(self, row: int) -> AnyImage:
        table, index = self._find(row)
        return table[index]

    def name(self, row: int) -> str:
        """Return the file of a row, or the row's number in its data set."""
        table, index = self._find(row)
        return table.name(index)

    @property
    def runs_user_code(self) -> bool:
        """Whether reading a row of some table may call functions of the user's."""
        return any(table.runs_user_code for table in self.tables)

    def _find(self, row: int) -> tuple[ImageTable, int]:
        number = bisect_right(self.ends, row)
        return self.tables[number], row - self.ends[number] + len(self.tables[number])

    def rows_of(self, epoch: int, seed: int) -> Any:
        """Return the rows (N,) that an epoch shows, table by table.

        Each table goes through its images in separate passes: where a weight asks for more or fewer
        images than there are, all of them are still shown equally often over the epochs.

        Args:
            epoch: Number of the epoch.
            seed: Seed of the order.
        """
        rows = []
        for number, (table, count, end) in enumerate(
            zip(self.tables, self.counts, self.ends, strict=True)
        ):
            size = len(table)
            first, last = epoch * count, (epoch + 1) * count
            passes = [
                np.random.default_rng([seed, 7, number, turn]).permutation(size)
                for turn in range(first // size, -(-last // size))
            ]
            shown = np.concatenate([*passes, np.empty(0, int)])
            start = first - first // size * size
            rows.append(shown[start : start + count] + end - size)
        return np.concatenate(rows)
