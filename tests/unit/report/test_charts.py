"""The charts of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mae_et.report.charts import CHARACTER, NARROW, accuracy_against_cost, mark, names, timeline
from mae_et.report.html import Name
from mae_et.report.palette import style
from mae_et.report.sections import name_tasks
from mae_et.runs import find_runs
from tests.support.run_folders import arms_of, lines, pretraining


def test_chart_shows_means_and_deviations(study: Path) -> None:
    arms = list(arms_of(study).values())
    (task,) = [task for task in name_tasks(arms) if task.kind == "fine-tuned"]
    flops, panel = accuracy_against_cost(arms, task)
    seconds: Any = panel.axes[0]
    assert seconds.get_ylim() == flops.axes[0].get_ylim()
    assert [name.text for name in names(arms, [flops, panel])] == [arm.name for arm in arms]
    points = {bars.get_label(): bars.lines[0].get_xydata().tolist() for bars in seconds.containers}
    assert points["long"] == [pytest.approx([8.5, 82.0])]
    assert points["short"] == [pytest.approx([8.5, 72.5])]
    (level,) = [line for line in seconds.lines if line.get_label() == "scratch"]
    assert level.get_ydata() == pytest.approx([55, 55])


def test_arms_look_different() -> None:
    assert len({style(index) for index in range(28)}) == 28


def test_marks_show_their_dashes() -> None:
    """The shape in the middle covers less than a third of the line, which is 3 long."""
    dashes = [mark(7 * lap).dashes for lap in range(4)]
    assert dashes[0] == ""
    assert all(0 < sum(map(float, pattern.split())) < 1 for pattern in dashes[1:])


def test_labels_of_bars_are_inside_them(tmp_path: Path) -> None:
    """Of twenty runs, each longer than the last, on one scale."""
    for number in range(20):
        windows = (5, 8, 80, 1.0 + number), (7, 16, 32, 0.1 + number / 2)
        pretraining(tmp_path / f"run_{number:02d}", 0, lines(*windows))
    found, _ = find_runs([str(tmp_path)])
    bars = timeline({Name(run.folder.name): run for run in found}, "").rows
    assert len(bars) == 20
    parts = [part for _, row, _ in bars for part in row]
    assert {part.label for part in parts} == {"", "8", "16"}
    assert all(CHARACTER * len(part.label) < part.share * NARROW for part in parts if part.label)
    totals = [sum(part.share for part in row) for _, row, _ in bars]
    assert totals == pytest.approx([(1.1 + 1.5 * number) / 29.6 for number in range(20)])
    colors = {(part.color, part.is_dark) for part in parts}
    assert {is_dark for _, is_dark in colors} == {False, True}
    assert len(colors) == 2  # a colour per size
