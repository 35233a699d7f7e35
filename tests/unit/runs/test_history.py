"""Runs by what they have left on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from mae_et.runs import find_runs
from tests.support.run_folders import lines, pretraining


def test_seconds_of_a_resumed_run(tmp_path: Path) -> None:
    """A step done twice counts once; one whose line a kill took away counts like those after it."""
    metrics = lines((10, 8, 160, 4.0), (20, 16, 160, 10.0))
    metrics.insert(1, {**metrics[1], "seconds": 50.0})  # replaced by the later line of step 20
    metrics.insert(-1, {**metrics[-2], "step": 30, "images": 64, "seconds": 6.0})  # 4 of 10 steps
    metrics[-1]["step"] = 30
    run = pretraining(tmp_path / "run", 0, metrics)
    (resumed,), _ = find_runs([str(run)])
    assert resumed.seconds == pytest.approx(4 + 10 + 6 * 10 / 4)
    small, full = resumed.stages
    assert (small.size, small.steps, small.images_per_s) == ("8", 10, pytest.approx(40))
    assert (full.size, full.steps, full.data_wait) == ("16", 20, pytest.approx(0.25))
    assert resumed.eval_losses == [(pytest.approx(29.0), 0.5)]
