"""The charts of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mae_et.report.charts import accuracy_against_cost, style
from mae_et.report.sections import name_tasks
from tests.support.run_folders import arms_of


def test_chart_shows_means_and_deviations(study: Path) -> None:
    arms = list(arms_of(study).values())
    tasks = {task: name for task, name in name_tasks(arms).items() if task.kind == "fine-tuned"}
    figure = accuracy_against_cost(arms, tasks)
    assert figure is not None
    seconds: Any
    _, seconds = figure.axes
    points = {bars.get_label(): bars.lines[0].get_xydata().tolist() for bars in seconds.containers}
    assert points["long"] == [pytest.approx([8.5, 82.0])]
    assert points["short"] == [pytest.approx([8.5, 72.5])]
    (level,) = [line for line in seconds.lines if line.get_label() == "scratch"]
    assert level.get_ydata() == pytest.approx([55, 55])


def test_arms_look_different() -> None:
    assert len({style(index) for index in range(28)}) == 28
