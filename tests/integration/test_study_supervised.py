"""The study of supervised training: its arms, its tuning, and its cells through real runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import study_supervised
from study_supervised import UNTUNED, Study
from support.runs import claim
from support.supervised import ARMS, Trial, next_trial, order
from support.supervised_runs import trained

from mae_et.curriculum import EFFICIENTTRAIN_PLUS_SIZES
from tests.support.paths import FASHION_MNIST


def tuned(peak: float) -> tuple[list[Trial], Trial]:
    """The trials, and the best of them, where accuracy falls off on both sides of a rate."""
    scores: dict[Trial, float] = {}
    while (trial := next_trial(scores)) is not None:
        rate, drop_path = trial
        scores[trial] = 1 - abs(rate - peak) + drop_path
    return list(scores), max(scores, key=lambda one: scores[one])


def test_tuning_goes_on_until_the_best_rate_has_neighbours() -> None:
    trials, best = tuned(8e-3)
    assert trials == [(1e-3, 0), (2e-3, 0), (4e-3, 0), (8e-3, 0), (1.6e-2, 0), (8e-3, 0.1)]
    assert best == (8e-3, 0.1)
    assert tuned(2e-3)[0] == [(1e-3, 0), (2e-3, 0), (4e-3, 0), (2e-3, 0.1)]
    assert min(tuned(0)[0])[0] == 2.5e-4  # the lowest that is tried


def test_cells_that_tell_most_come_first() -> None:
    cells = order(["A", "B"], ["constant", "control", "et", "low"], [3, 1])
    assert cells[:4] == [(f, arm, 3) for f in "AB" for arm in ("constant", "et")]
    assert cells[4:8] == [(f, arm, 3) for f in "AB" for arm in ("control", "low")]
    assert len(cells) == len({*cells}) == 16
    assert {seed for _, _, seed in cells[8:]} == {1}


@pytest.mark.parametrize("family", ["ResNet", "ConvNeXt", "DeiT", "CSWin"])
def test_arms_cost_and_see_what_they_say(family: str, tmp_path: Path) -> None:
    study = Study(tmp_path, f"parquet:{FASHION_MNIST}", per_class=320, epochs=10)
    constant, et, etpp, control, low, low_end = (study.plan(family, arm) for arm in ARMS)
    steps = {
        arm: {stage.size: stage.steps for stage in plan.stages}
        for arm, plan in (("et", et), ("low", low), ("low_end", low_end))
    }
    assert (constant.stages[0].size, constant.steps) == (28, 1000)
    assert steps["et"] == {20: 600, 24: 200, 28: 200}
    assert steps["low"] == {20: 999, 28: 1}
    assert steps["low_end"] == {20: 900, 28: 100}
    assert control.exaflops == pytest.approx(et.exaflops, rel=0.005)
    assert 0.6 < et.exaflops / constant.exaflops < 0.66
    assert 0.6 < etpp.exaflops / constant.exaflops < 0.75
    name = {"DeiT": "deit", "ConvNeXt": "convnext"}.get(family, "swin")
    published = sorted({size // 8 for size in EFFICIENTTRAIN_PLUS_SIZES[name]})
    assert [stage.size for stage in etpp.stages] == published

    settings = {arm: study.settings(family, arm, 0, UNTUNED) for arm in ARMS}
    lengths = {"optim.epochs", "optim.warmup_epochs"}
    for arm, own in settings.items():
        different = {key for key in own if own[key] != settings["constant"].get(key)} - lengths
        assert all(key.startswith("curriculum.") for key in different), arm
        assert own["optim.warmup_epochs"] == pytest.approx(own["optim.epochs"] / 10)


def test_a_stopped_study_goes_on(
    clothes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        study_supervised, "next_trial", lambda scores: None if scores else (2e-3, 0.1)
    )
    out, started = tmp_path / "out", list[str]()
    options = [f"--data={clothes.partition(':')[2]}", f"--out={out}", "--per_class=8"]
    options += ["--families", "ResNet", "--arms", "constant", "et", "--seeds", "0"]

    def noted(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
        started.append(folder.parent.name)
        if folder.parent.name in stop:
            raise KeyboardInterrupt
        return trained(folder, settings)

    monkeypatch.setattr(study_supervised, "trained", noted)
    stop = {"ResNet_et_0"}
    with pytest.raises(SystemExit, match="the same command continues"):
        study_supervised.main([*options, "--epochs=5"])
    assert started == ["ResNet_tuning", "ResNet_constant_0", "ResNet_et_0"]

    stop.clear()
    started.clear()
    study = Study(out, clothes, per_class=8, epochs=5)
    with claim(out / "ResNet_et_0") as is_mine:
        assert is_mine
        assert not study.run("ResNet", "et", 0)  # another command is at it
    study_supervised.main([*options, "--epochs=5"])
    assert started == ["ResNet_et_0"]
    results = json.loads((out / "results.json").read_text())
    constant, et = (results["cells"]["ResNet"][arm]["0"] for arm in ("constant", "et"))
    assert (constant["steps"], et["steps"]) == (12, 12)
    assert len(constant["curve"]) == 6
    assert constant["top1"] == constant["curve"][-1]
    assert [*et["sizes"]] == ["20", "24", "28"]
    assert sum(part["images"] for part in et["sizes"].values()) == 12 * 32
    parts = [part[key] for part in et["sizes"].values() for key in part if key != "images"]
    assert sum(parts) == pytest.approx(et["cpu_seconds"])
    assert min(parts) > 0
    assert 0 <= et["recalibrated"] <= 1
    assert results["tuned"]["ResNet"]["rate"] == 2e-3

    shown = capsys.readouterr().out
    saving = constant["exaflops"] / et["exaflops"]
    assert f"| ResNet | {saving:.2f} / " in shown
    assert f"| ResNet | {100 * (et['top1'] - constant['top1']):+.2f} |" in shown

    started.clear()
    with pytest.raises(SystemExit, match=r"changed: optim.epochs, .*Remove .*another --out"):
        study_supervised.main([*options, "--epochs=6"])
    assert started == []
