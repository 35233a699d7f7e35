"""The search of the frontier: its order, its costs, and its cells through the real commands."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import study_frontier
from study_frontier import Frontier
from support import cells, frontier, runs
from support import clothes as scoring
from support.arms import SCALES
from support.frontier import BUDGETS, FAST, ORDER, Recipe, finalists, ladder, search


def searched(score: dict[str, Any]) -> tuple[Recipe, list[Recipe]]:
    """What the search comes to, and what it has tried, where settings of a recipe score points."""
    scores: dict[Recipe, float] = {}
    best, missing = search(scores)
    while missing:
        for recipe in missing:
            scores[recipe] = sum(getattr(recipe, name) == value for name, value in score.items())
        best, missing = search(scores)
    return best, list(scores)


def test_one_setting_changes_at_a_time_and_the_better_value_is_kept() -> None:
    best, tried = searched({"target": "pixel", "decoder": (1, 24), "rate": 2.0})
    assert best == Recipe(target="pixel", decoder=(1, 24), rate=2.0)
    assert tried[0] == FAST
    assert [recipe.target for recipe in tried[:3]] == ["hog", "pixel", "norm_pixel"]
    assert all(recipe.target == "pixel" for recipe in tried[3:])
    assert [recipe.decoder for recipe in tried[3:5]] == [(2, 48), (1, 24)]
    assert len(tried) == len({*tried}) == 1 + sum(map(len, ORDER.values()))
    assert {recipe.budget for recipe in tried} == {FAST.budget}
    assert searched({})[0] == FAST  # a value that is no better is not kept


def test_the_cheapest_that_loses_nothing_goes_to_the_end_with_its_neighbour() -> None:
    rungs = ladder(FAST)
    gains = dict(zip(rungs, [(-1, 2), (1, -0.1), (0.1, 0.2), (1, 1), (-1, -1)], strict=True))
    assert finalists(rungs, gains) == rungs[2:4]
    assert finalists(rungs, dict.fromkeys(rungs, (-1.0, 1.0))) == rungs[-2:]
    assert finalists(rungs, dict.fromkeys(rungs[:-1], (-1.0,)) | {rungs[-1]: (1.0,)}) == rungs[-2:]


def test_recipes_cost_what_their_budget_says(clothes: str, tmp_path: Path) -> None:
    scale = SCALES["cpu"]
    scale = replace(scale, pretraining=scale.pretraining | {"data__num_images": 60_000})
    study = Frontier(tmp_path, clothes, scale, scale.epochs, search_seeds=[0], seeds=[1])
    recipes = [
        Recipe(decoder=(2, 48), decode_ratio=1.0, mask_ratio=0.85, curriculum="low_end"),
        Recipe(target="norm_pixel", decoder=(1, 24), curriculum="constant", budget=BUDGETS[-1]),
    ]
    study.recipes |= {recipe.name: recipe for recipe in recipes}
    full = study.plan("constant")
    for recipe in recipes:
        plan = study.plan(recipe.name)
        assert plan["exaflops"] / full["exaflops"] == pytest.approx(recipe.budget, rel=0.02)
    low_end = study.plan(recipes[0].name)["stages"]
    assert [stage["size"] for stage in low_end] == [20, 28]
    assert low_end[1]["cost"] == pytest.approx(0.1, abs=0.005)
    assert (study.labels(0)["data__fold"], "data__fold" in study.labels(1)) == ("[1, 2]", False)


def test_a_stopped_search_goes_on_beside_another(
    clothes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started: list[str] = []
    stop = {"pixel-1x48-0.5-0.75-plus-1.0-0.16_0"}

    def run(module: str, folder: Path, *arguments: str, **fields: object) -> None:
        started.append(f"{folder.parent.name}/{fields.get('mode', folder.name)}")
        if folder.parent.name in stop:
            raise KeyboardInterrupt

    def top1(folder: Path, mode: str = "") -> float:
        arm, _, seed = folder.parent.name.rpartition("_")
        best = 0.8 if arm.startswith("pixel") else 0.7
        return best + (0.05 if arm.endswith("0.3") else 0) + 0.001 * int(seed)

    def pretrained(folder: Path) -> dict[str, Any]:
        is_constant = folder.parent.name.startswith("constant")
        return {
            "encoder": f"{zlib.crc32(str(folder).encode())}",
            "seconds": 80 if is_constant else 10,
        }

    def stopped(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "run", run)
    monkeypatch.setattr(cells, "pretrained", pretrained)
    monkeypatch.setattr(study_frontier, "step_flops", lambda _: 1.0)
    monkeypatch.setattr(
        Frontier, "planned", lambda _, fields: {"exaflops": fields["optim__epochs"]}
    )
    monkeypatch.setattr(scoring, "_last_top1", top1)
    monkeypatch.setattr(scoring, "_probed_top1", top1)
    monkeypatch.setattr(frontier, "ORDER", {"target": ("pixel",)})
    monkeypatch.setattr(frontier, "BUDGETS", (0.16, 0.3))
    out = tmp_path / "out"
    data = clothes.partition(":")[2]
    command = [f"--data={data}", f"--out={out}", "--epochs=9", "--search_seeds=0", "--seeds=1"]
    with pytest.raises(SystemExit, match="the same command continues"):
        study_frontier.main(command)
    assert [name for name in started if name.endswith("pretraining")] == [
        "constant_0/pretraining",
        f"{FAST.name}_0/pretraining",
        f"{Recipe(target='pixel').name}_0/pretraining",
    ]
    assert started[1:4] == [f"constant_0/{kind}" for kind in ("fine-tuned", "linear", "knn")]

    stop.clear()
    started.clear()
    pixel, dearer = Recipe(target="pixel"), Recipe(target="pixel", budget=0.3)
    with runs.claim(out / f"{pixel.name}_0"):  # another command is at it
        monkeypatch.setattr("time.sleep", stopped)
        with pytest.raises(SystemExit, match="the same command continues"):
            study_frontier.main(command)
    assert {name.partition("/")[0] for name in started} == {"constant_1"}

    started.clear()
    study_frontier.main(command)
    order = dict.fromkeys(name.partition("/")[0] for name in started)
    assert [*order] == [
        *(f"{recipe.name}_0" for recipe in (pixel, dearer)),
        *(f"{recipe.name}_1" for recipe in (pixel, dearer)),
    ]
    assert len(started) == 4 * len(order)
    results = json.loads((out / "results.json").read_text())
    assert (results["best"], results["finalists"]) == (pixel.name, [pixel.name, dearer.name])
    shown = capsys.readouterr().out.splitlines()
    assert "| constant | 1.00 | 1.0 (1.0 to 1.0) |" in "\n".join(shown)
    assert any(line.startswith("| 2 | 0.16 | 8.0 (8.0 to 8.0) | 80.10 |") for line in shown)

    with pytest.raises(SystemExit, match=r"changed: optim.epochs: .*Remove .*or choose"):
        study_frontier.main([*command, "--epochs=8"])
