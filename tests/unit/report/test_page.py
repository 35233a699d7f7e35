"""The page of the report."""

from __future__ import annotations

import json
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


def test_a_line_without_a_time_has_no_date(tmp_path: Path) -> None:
    """Which ours have; a stranger's may be null."""
    run = pretraining(tmp_path / "run", 0, lines((10, 16, 160, 1.0)))
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for number, line in enumerate(found):
        line["time"] = None if number else 86400.0 * 365
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in found))
    runs, _ = find_runs([str(run)])
    rows = {str(row[0]): row[1] for row in facts(runs, [], "").rows}
    assert rows["runs"] == "1, of 1971-01-01"
