"""What a run costs: FLOPs against a count by hand, the published speedups, and measured steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mae_et import load_mae_checkpoint
from mae_et.__main__ import main
from mae_et.model.flops import training_flops
from mae_et.planning import measure
from mae_et.runs import Run
from tests.support.arguments import tiny


def plan_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["plan", *arguments, "--json=-"]) == 0
    plan: dict[str, Any] = json.loads(capsys.readouterr().out)
    return plan


def column(plan: dict[str, Any], name: str) -> list[Any]:
    return [stage[name] for stage in plan["stages"]]


@pytest.mark.parametrize(
    ("recipe", "speedup", "tolerance"), [("et_vit_b_16", 1.54, 0.01), ("et_vit_l_16", 1.53, 0.01)]
)
def test_published_speedups_of_efficienttrain(
    recipe: str, speedup: float, tolerance: float, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(["--config", recipe], capsys)
    assert plan["num_images"] == 1_281_167
    assert plan["speedup"] == pytest.approx(plan["mae_speedup"], rel=1e-5)  # whole steps
    assert plan["speedup"] == pytest.approx(speedup, abs=tolerance)


def test_published_speedup_of_efficienttrain_plus(capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(["--config", "etpp_vit_b_16", "--processes=8"], capsys)
    assert plan["mae_speedup"] == pytest.approx(3.98, rel=0.02)
    assert plan["speedup"] == pytest.approx(1, rel=0.01)  # its budget
    assert column(plan, "size") == [96, 160, 224]
    assert column(plan, "visible") == [9, 25, 49]
    assert column(plan, "patches") == [36, 100, 196]
    assert column(plan, "steps") == [136_235, 98_089, 50_046]
    assert column(plan, "epochs") == pytest.approx([435.6, 313.6, 160], rel=1e-3)
    assert column(plan, "micro_batch") == [512, 512, 256]
    assert column(plan, "accumulation") == [1, 1, 2]
    assert column(plan, "cost") == pytest.approx([0.2, 0.4, 0.4], abs=0.005)
    assert plan["steps"] == 284_370
    flops = sum(s["gflops"] * s["steps"] for s in plan["stages"]) * 1e9 * 4096
    assert plan["exaflops"] == pytest.approx(flops / 1e18)


def test_num_images_and_the_size_to_compare_with(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config=mae_vit_b_16", "--model.image_size=96", "--optim.epochs=800"]
    plan = plan_of([*arguments, "--data.num_images=4096000", "--mae_size=224"], capsys)
    assert plan["steps"] == 800_000
    assert plan["speedup"] == 1
    # 10.726 and 57.223 GFLOPs
    assert plan["mae_speedup"] == pytest.approx(2 * 57.222500352 / 10.725937152)


def test_the_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    assert main(["plan", "--config=demo", "--data.num_images=10000", f"--json={file}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [
        *("20", "5x5", "6/25", "7.2", "281", "1", "x", "256", "0.0339", "46.8%")
    ]
    assert lines[5].startswith("469 steps of 256 images by 1 process, 12.0 passes over 10000")
    assert lines[6].endswith("1.52 against 12 epochs at full size")  # and not with 1600 of MAE
    assert main(["plan", "--config=et_vit_b_16"]) == 0
    assert ", 1.54 against 1600 epochs of MAE at 224\n" in capsys.readouterr().out
    assert column(json.loads(file.read_text()), "size") == [20, 24, 28]


def test_images_are_counted(clothes: str, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(tiny(clothes, "unused"), capsys)
    assert plan["num_images"] == 80
    assert column(plan, "steps") == [10, 5, 5]
    assert column(plan, "micro_batch") == [16, 4, 4]
    assert column(plan, "hours") == [None] * 3


def test_measured_steps(
    clothes: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measure, "SECONDS", 0.0)
    arguments = tiny(clothes, tmp_path / "run", data__num_workers=1)
    plan = plan_of([*arguments, "--measure", "--price_per_hour=36"], capsys)
    assert sum(column(plan, "time")) == pytest.approx(1)
    assert sum(column(plan, "hours")) == pytest.approx(plan["hours"])
    assert 0 < plan["hours"] < 0.1
    assert plan["price"] == pytest.approx(36 * plan["hours"])
    assert plan["time_speedup"] == pytest.approx(20 * column(plan, "hours")[2] / 5 / plan["hours"])
    assert not (tmp_path / "run").exists()


def test_a_run_of_equal_cost_by_flops(clothes: str, tmp_path: Path) -> None:
    """Sizes 8 and 16 share the FLOPs of 20 full-size steps, and the learning rate's schedule."""
    run = tmp_path / "run"
    own = {"curriculum.name": "efficienttrain_plus", "curriculum.stages": "[]"}
    own |= {"curriculum.sizes": "[8, 16]", "curriculum.cost": "flops"}
    assert main(["pretrain", *tiny(clothes, run, **own)]) == 0
    model = load_mae_checkpoint(run)
    small = 10 * training_flops(model, 16) / training_flops(model, 8)
    assert small < 37  # 40 by area
    lines = [line for line in Run(run).read_metrics() if "loss" in line]
    sizes = [line["size"] for line in lines]
    assert sizes.count(8) == pytest.approx(small, abs=1)
    assert sizes.count(16) == 10
    # Warm-up is a quarter of the budget, so half of the small stage; peak 0.01 · 16 / 256.
    half = sizes.count(8) / 2
    assert lines[10]["lr"] == pytest.approx(0.01 * 16 / 256 * 10 / half)
