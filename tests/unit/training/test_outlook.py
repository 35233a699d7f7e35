"""When a run will end, with a clock that is made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mae_et.config import RunConfig
from mae_et.curriculum import Curriculum
from mae_et.training import outlook as module
from mae_et.training.outlook import Deadline, Outlook, clock

STAGES = Curriculum.from_stages([(16, 1.0), (32, 1.0)], num_steps=200)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time, which stands still unless it is set."""
    time = SimpleNamespace(seconds=1000.0)
    fake: Any = SimpleNamespace(monotonic=lambda: time.seconds)
    monkeypatch.setattr(module, "time", fake)
    return time


def test_nothing_is_known_before_the_first_window(now: SimpleNamespace) -> None:
    assert Outlook(STAGES).seconds_left(0) is None


def test_sizes_to_come_count_by_their_pixels(now: SimpleNamespace) -> None:
    outlook = Outlook(STAGES)
    outlook.add(16, 10, 5.0)
    now.seconds += 5.0
    assert outlook.seconds_left(10) == pytest.approx(90 * 0.5 + 100 * 4 * 0.5)


def test_sizes_to_come_count_by_what_was_planned_for_them(now: SimpleNamespace) -> None:
    outlook = Outlook(STAGES, {16: 0.25, 32: 0.75})
    outlook.add(16, 10, 5.0)  # twice as slow as planned
    now.seconds += 5.0
    assert outlook.seconds_left(10) == pytest.approx(90 * 0.5 + 100 * 1.5)


def test_the_first_window_of_a_size_is_forgotten(now: SimpleNamespace) -> None:
    outlook = Outlook(STAGES)
    outlook.add(32, 10, 100.0)
    for _ in range(4):
        outlook.add(32, 10, 10.0)
    now.seconds += 140.0
    assert outlook.seconds_left(150) == pytest.approx(50 * 1.0)


def test_evaluations_and_checkpoints_take_their_time_too(now: SimpleNamespace) -> None:
    outlook = Outlook(STAGES)
    outlook.add(16, 100, 100.0)
    now.seconds += 150.0  # half a second a step beside it, at any size
    assert outlook.seconds_left(100) == pytest.approx(100 * (4 + 0.5))


def test_what_comes_before_the_first_step_is_not_repeated(now: SimpleNamespace) -> None:
    outlook = Outlook(STAGES)
    now.seconds += 60.0
    outlook.start()
    outlook.add(16, 10, 5.0)
    now.seconds += 5.0
    assert outlook.seconds_left(10) == pytest.approx(90 * 0.5 + 100 * 4 * 0.5)


def test_a_run_in_time_says_nothing(now: SimpleNamespace) -> None:
    deadline = Deadline(RunConfig(hours=1.0), now.seconds)
    now.seconds += 1800
    assert deadline.warning(1800 * 1.09) is None
    assert not deadline.is_over()
    now.seconds += 1801
    assert not deadline.is_over()  # run.on_late is go


def test_a_late_run_says_so_once(now: SimpleNamespace) -> None:
    deadline = Deadline(RunConfig(hours=1.0), now.seconds)
    now.seconds += 100
    assert deadline.warning(3 * 3600) is None  # too early to judge
    now.seconds += 200
    text = deadline.warning(3 * 3600)
    assert text is not None
    assert "slower than planned: 3.08 hours in place of 1; --resume auto --run.on_late" in text
    assert deadline.warning(3 * 3600) is None


def test_a_run_that_is_to_stop_does(now: SimpleNamespace) -> None:
    deadline = Deadline(RunConfig(hours=1.0, on_late="stop"), now.seconds - 1800)  # ran before
    now.seconds += 1790
    assert deadline.share(3600) is None
    assert not deadline.is_over()
    assert "it is stopped then, with a checkpoint" in (deadline.warning(3600) or "")
    now.seconds += 20
    assert deadline.is_over()


def test_a_run_that_is_to_be_shortened_gets_the_time_that_is_left(now: SimpleNamespace) -> None:
    deadline = Deadline(RunConfig(hours=1.0, on_late="shorten"), now.seconds)
    assert deadline.share(7200) is None  # too early to judge
    now.seconds += 0.185 * 3600
    assert deadline.share(0.85 * 3600) is None  # in time
    assert deadline.share(1.6 * 3600) == pytest.approx(0.5)
    assert "in fewer steps" in (deadline.warning(7200) or "")
    now.seconds += 3600
    assert deadline.share(7200) == 0.0
    assert deadline.share(0.0) is None  # the last step is taken


def test_a_run_that_is_to_fit_gets_more_steps_if_it_is_early(now: SimpleNamespace) -> None:
    deadline = Deadline(RunConfig(hours=1.0, on_late="fit"), now.seconds)
    now.seconds += 0.185 * 3600
    assert deadline.share(0.8 * 3600) is None  # in time
    assert deadline.share(0.4 * 3600) == pytest.approx(2.0)
    assert deadline.warning(0.4 * 3600) is None
    assert deadline.share(1.6 * 3600) == pytest.approx(0.5)


def test_a_run_without_hours_has_no_deadline(now: SimpleNamespace) -> None:
    deadline = Deadline(RunConfig(on_late="stop"), now.seconds)
    now.seconds += 1e9
    assert deadline.warning(1e9) is None
    assert not deadline.is_over()


@pytest.mark.parametrize(
    ("seconds", "text"), [(41, "0:41 min"), (3599.6, "1:00 h"), (7500, "2:05 h"), (0, "0:00 min")]
)
def test_times_in_words(seconds: float, text: str) -> None:
    assert clock(seconds) == text
