"""What supervised training costs: the published speedups, and an early large batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune.__main__ import main


def plan_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["plan", *arguments, "--json=-"]) == 0
    plan: dict[str, Any] = json.loads(capsys.readouterr().out)
    return plan


@pytest.mark.parametrize(("recipe", "speedup"), [("etpp_resnet50", 1.49), ("etpp_deit_tiny", 1.56)])
def test_published_speedups(
    recipe: str, speedup: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every row: scripts/plan_recipes.py."""
    plan = plan_of(["--config", recipe], capsys)
    assert plan["usual_speedup"] == pytest.approx(speedup, rel=0.02)
    assert plan["num_images"] == 1_281_167
    flops = sum(s["gflops"] * s["steps"] for s in plan["stages"]) * 1e9 * 4096
    assert plan["exaflops"] == pytest.approx(flops / 1e18)


def test_early_large_batch_for_64_gpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    early = "--optim.early_batch=[{size: 96, times: 4}, {size: 160, times: 2}]"
    arguments = ["--config=etpp_resnet50", "--processes=64"]
    plain, file = plan_of(arguments, capsys), tmp_path / "plan.json"
    assert main(["plan", *arguments, early, f"--json={file}"]) == 0
    large = json.loads(file.read_text())
    assert [stage["times"] for stage in large["stages"]] == [4, 2, 1]
    assert [stage["micro_batch"] for stage in plain["stages"]] == [64, 64, 64]
    assert [stage["micro_batch"] for stage in large["stages"]] == [256, 128, 64]
    assert large["batches"] == plain["steps"] == plain["batches"]
    for one, other in zip(plain["stages"], large["stages"], strict=True):
        assert other["steps"] == pytest.approx(one["steps"] / other["times"], abs=2)
        assert other["cost"] == pytest.approx(one["cost"], abs=1e-4)
    assert large["exaflops"] == pytest.approx(plain["exaflops"], rel=1e-4)
    text = capsys.readouterr().out
    assert "early large batch: 66575 steps in place of 142185;" in text
    assert "(18%) at 96" in text


def test_a_recipe_of_the_other_package_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--config=et_vit_b_16"]) == 2
    assert "got et_vit_b_16: mae-et pretrain, or mae-et plan" in capsys.readouterr().err
