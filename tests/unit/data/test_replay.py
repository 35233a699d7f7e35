"""The replay buffer: what a step takes, what it draws, and that a resumed run draws the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from mae_et import data
from mae_et.data.replay import first_step

SPANS = [
    data.ReplaySpan(start=0, stop=6, ratio=4, batches=2),
    data.ReplaySpan(start=8, stop=12, ratio=2, batches=3),
]


class Samples:
    """A stream whose images are their sample numbers."""

    seed = 3

    def __init__(self, clock: data.SampleClock) -> None:
        self.clock = clock

    def __len__(self) -> int:
        return 10_000

    def batches(self, start: int, stop: int, **options: int) -> data.StepBatches:
        return data.StepBatches(start, stop, clock=self.clock, **options)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {
            "image": torch.full((1, 2, 2), number, dtype=torch.int32),
            "noise": torch.full((4,), 2.0),
            "unreadable": [],
        }


def images_of(start: int, *, stop: int = 14, rank: int = 0, world: int = 1) -> list[list[int]]:
    """The sample numbers that each step from `start` on sees, in chunks of 8 of 16."""
    clock = data.SampleClock(16, SPANS)
    chunks = data.load_steps(
        Samples(clock),  # type: ignore[arg-type]
        start,
        stop,
        chunk_size=8 // world,
        rank=rank,
        world=world,
        num_workers=0,
        pin_memory=False,
    )
    rows = [chunk["image"][:, 0, 0, 0].tolist() for chunk in chunks]
    for chunk in chunks:
        assert chunk["noise"].shape == (8 // world, 4)
    return [rows[i] + rows[i + 1] for i in range(0, len(rows), 2)]


def test_a_step_fills_up_from_the_latest_images_of_its_size() -> None:
    clock = data.SampleClock(16, SPANS)
    for step, images in enumerate(images_of(0)):
        fresh, span = clock.samples(step), clock.span_at(step)
        assert len(images) == 16
        assert set(fresh) <= set(images)
        replayed = [image for image in images if image not in fresh]
        assert len(replayed) == 16 - len(fresh)
        if span is not None and replayed:
            newest, oldest = fresh.start, clock.samples(span.start).start
            assert all(max(oldest, newest - 16 * span.batches) <= n < newest for n in replayed)


def test_draws_are_spread_over_the_buffer() -> None:
    """Of a buffer of two batches, over the steps that are filled from it."""
    images = [image for step in images_of(1, stop=6) for image in step]
    assert len(set(images)) > 25  # of 16 + 5 · 4 = 36 images


@pytest.mark.parametrize("start", range(14))
@pytest.mark.parametrize(("rank", "world"), [(0, 1), (1, 2)])
def test_a_resumed_run_draws_the_same(start: int, rank: int, world: int) -> None:
    whole = images_of(0, rank=rank, world=world)
    assert images_of(start, rank=rank, world=world) == whole[start:]


def test_a_resumed_run_loads_no_more_than_the_buffer_holds() -> None:
    clock = data.SampleClock(16, [data.ReplaySpan(start=10, stop=100, ratio=4, batches=2)])
    assert [first_step(clock, start) for start in (9, 10, 11, 14, 90)] == [9, 10, 10, 10, 82]


def test_the_clock_counts_the_samples_of_each_step() -> None:
    clock = data.SampleClock(16, SPANS)
    counts = [16, 4, 4, 4, 4, 4, 16, 16, 16, 8, 8, 8, 16, 16]
    firsts = np.cumsum([0, *counts])
    assert [len(clock.samples(step)) for step in range(14)] == counts
    assert [clock.samples(step).start for step in range(14)] == firsts[:-1].tolist()
    steps = [clock.step_of(sample) for sample in range(int(firsts[-1]))]
    assert Counter(steps) == dict(enumerate(counts))
    assert steps == sorted(steps)
    assert clock.divisor == 4
    thirds = [
        data.ReplaySpan(start=first, stop=first + 3, ratio=ratio, batches=2)
        for first, ratio in ((0, 3), (3, 2))
    ]
    assert data.SampleClock(24, thirds).divisor == 4  # of steps of 24, 8 and 12
    with pytest.raises(ValueError, match=r"data.replay.ratio must divide optim.batch_size 16"):
        data.SampleClock(16, [data.ReplaySpan(start=0, stop=6, ratio=3, batches=2)])
