"""The page of the report."""

from __future__ import annotations

from pathlib import Path

import yaml

from mae_et.report.page import facts
from mae_et.runs import find_runs
from tests.support.run_folders import lines, pretraining


def test_the_cost_of_given_weights_is_not_counted(tmp_path: Path) -> None:
    run = pretraining(tmp_path / "run", 0, lines((10, 16, 160, 1.0)))
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"checkpoint": "mae.pth"}))
    runs, _ = find_runs([str(run)])
    rows = {str(row[0]): row[1] for row in facts(runs, [], "").rows}
    assert rows["cost not counted"] == f"{run}: what its weights cost before, mae.pth"
