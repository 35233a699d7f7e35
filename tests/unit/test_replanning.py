"""Replanned schedules: what was trained stays as it was, what is left keeps its shares."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mae_et.curriculum import Curriculum
from mae_et.replanning import replan, replan_all

PLANNED = Curriculum.efficienttrain_plus(full_size=224, patch_size=16, budget=1000)
EQUAL = Curriculum.from_stages([(8, 1.0), (16, 1.0)], num_steps=100)


@pytest.mark.parametrize("planned", [PLANNED, EQUAL], ids=["by cost", "by steps"])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.37, 0.5, 0.93])
def test_what_was_trained_stays_and_the_rest_follows_without_a_jump(
    planned: Curriculum, part: float
) -> None:
    since = int(part * planned.num_steps)
    shorter = replan(planned, since, since + (planned.num_steps - since) // 2)
    assert len(shorter.stages) == len(planned.stages)
    assert [stage.size for stage in shorter.stages] == [stage.size for stage in planned.stages]
    for step in range(since):
        assert shorter.stage_at(step).size == planned.stage_at(step).size
        assert shorter.lr_progress(step) == planned.lr_progress(step)
    progress = [shorter.lr_progress(step) for step in range(shorter.num_steps + 1)]
    assert progress[-1] == 1.0
    largest = max(
        planned.lr_progress(step + 1) - planned.lr_progress(step)
        for step in range(planned.num_steps)
    )
    steps = [after - before for before, after in pairwise(progress)]
    assert all(0 < step <= 3 * largest for step in steps)


def test_each_stage_keeps_its_share_of_what_is_left() -> None:
    since = PLANNED.stages[2].start
    shorter = replan(PLANNED, since, since + (PLANNED.num_steps - since) // 4)
    for short, long in zip(shorter.stages[2:], PLANNED.stages[2:], strict=True):
        assert short.num_steps == pytest.approx(long.num_steps / 4, abs=1)


def test_a_step_of_the_new_schedule_has_the_progress_of_its_place_in_the_old_one() -> None:
    shorter = replan(EQUAL, 30, 65)  # the seventy steps left become thirty-five
    assert [(stage.start, stage.stop) for stage in shorter.stages] == [(0, 40), (40, 65)]
    assert shorter.lr_progress(35) == pytest.approx(0.4)
    assert shorter.lr_progress(40) == pytest.approx(0.5)
    assert shorter.lr_progress(50) == pytest.approx(0.7)


def test_more_steps_too() -> None:
    longer = replan(EQUAL, 30, 170)  # the seventy steps left become one hundred and forty
    assert [(stage.start, stage.stop) for stage in longer.stages] == [(0, 70), (70, 170)]
    assert longer.lr_progress(30) == pytest.approx(0.3)
    assert longer.lr_progress(70) == pytest.approx(0.5)
    assert longer.lr_progress(120) == pytest.approx(0.75)
    back = replan(longer, 120, 145)
    assert back.lr_progress(145) == 1.0


def test_every_stage_left_gets_a_step() -> None:
    shorter = replan(PLANNED, 5, 6)
    assert [stage.num_steps for stage in shorter.stages] == [6] + [1] * 9


def test_a_run_may_be_replanned_more_than_once() -> None:
    twice = replan_all(EQUAL, [(30, 65), (50, 60)])
    assert twice.num_steps == 60
    assert twice.lr_progress(50) == pytest.approx(0.7)
    assert twice.lr_progress(55) == pytest.approx(0.85)
    assert replan_all(EQUAL, []) is EQUAL


@pytest.mark.parametrize("numbers", [(100, 100), (100, 120), (50, 50), (-1, 50)])
def test_numbers_of_no_run(numbers: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"run\.replanned must hold .* 100 steps, got \["):
        replan(EQUAL, *numbers)
