"""Early large batch: the same samples in the same order, and a learning rate that follows them."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from mae_et.curriculum import Curriculum, Size
from mae_et.data import ReplaySpan, SampleClock, StepBatches
from mae_et.early_batch import enlarge_batches, rate_factor
from mae_et.replanning import replan

PLUS = Curriculum.efficienttrain_plus(full_size=224, patch_size=32, budget=333)
EQUAL = Curriculum.efficienttrain(full_size=224, patch_size=32, num_steps=101)
TIMES: dict[Size, int] = {96: 5, 160: 2}
EARLY = enlarge_batches(PLUS, TIMES)
G = 24


@pytest.mark.parametrize(("planned", "times"), [(PLUS, TIMES), (EQUAL, {160: 4, 192: 3})])
def test_stages_and_the_schedule_end_where_they_ended(
    planned: Curriculum, times: dict[Size, int]
) -> None:
    early = enlarge_batches(planned, times)
    assert early.batches_before(early.num_steps) == planned.num_steps > early.num_steps
    for stage, before in zip(early.stages, planned.stages, strict=True):
        number = times.get(stage.size, 1)
        assert (stage.size, stage.times) == (before.size, number)
        batches = early.batches_before(stage.stop)
        assert 0 <= before.stop - batches < number
        assert early.lr_progress(stage.stop) == pytest.approx(planned.lr_progress(batches))
    progress = [early.lr_progress(step) for step in range(early.num_steps + 1)]
    assert progress[-1] == 1
    assert all(one < other for one, other in pairwise(progress))


@pytest.mark.parametrize(
    ("clock", "num_steps"),
    [
        (SampleClock(G, curriculum=EARLY), EARLY.num_steps),
        (SampleClock(G, curriculum=(late := replan(EARLY, 70, 200))), late.num_steps),
    ],
    ids=["whole", "shortened"],
)
def test_steps_take_the_samples_one_after_the_other(clock: SampleClock, num_steps: int) -> None:
    samples = [number for step in range(num_steps) for number in clock.samples(step)]
    assert samples == list(range(len(samples)))
    assert clock.divisor == G
    for step in (0, 1, 70, num_steps - 1):
        assert {clock.step_of(number) for number in clock.samples(step)} == {step}
        assert len(clock.samples(step)) == G * clock.batches(step)


@pytest.mark.parametrize("start", [0, 1, 30, EARLY.stages[2].start, EARLY.num_steps - 1])
def test_a_run_resumed_at_any_step_loads_what_is_left(start: int) -> None:
    """In chunks of the same size, shared out over two processes."""
    loaded, stop = [], min(start + 40, EARLY.num_steps)
    clock = SampleClock(G, curriculum=EARLY)
    for rank in (0, 1):
        batches = StepBatches(start, stop, clock=clock, chunk_size=4, rank=rank, world=2)
        chunks = list(batches)
        assert len(chunks) == len(batches)
        assert {len(chunk) for chunk in chunks} == {4}
        loaded += [number for chunk in chunks for number in chunk]
    assert sorted(loaded) == list(range(clock.samples(start).start, clock.samples(stop - 1).stop))


def test_a_replay_buffer_fills_up_the_larger_steps() -> None:
    stages = enlarge_batches(Curriculum.from_stages([(8, 1), (16, 1)], num_steps=8), {8: 2})
    clock = SampleClock(G, [ReplaySpan(start=0, stop=2, ratio=3, batches=2)], stages)
    assert [len(clock.samples(step)) for step in range(6)] == [2 * G, 2 * G // 3, G, G, G, G]
    assert clock.num_batches(0, 6) == 8


def test_the_rate_grows_as_asked() -> None:
    found = [rate_factor(4, scaling) for scaling in ("sqrt", "linear", "none")]
    assert found == [2, 4, 1]
    assert rate_factor(2, "sqrt") == math.sqrt(2)


@pytest.mark.parametrize(
    ("planned", "times", "message"),
    [
        (
            PLUS,
            {128: 2},
            r"early_batch.size must be that of a stage below full size \(96, 160\)",
        ),
        (PLUS, {224: 2}, "optim.early_batch.size must be that of a stage below full size"),
        (PLUS, {96: 400}, "optim.early_batch.times must be at most the 181 batches of a stage at"),
        (
            Curriculum.constant(full_size=224, num_steps=9),
            {224: 2},
            "must be left out in a run that has no stage below full size, got 224",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    planned: Curriculum, times: dict[Size, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        enlarge_batches(planned, times)
