"""The search of a schedule: its two algorithms, and that its runs share what they can."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mae_et.__main__ import main
from mae_et.pretraining import Pretrainer
from mae_et.runs import Run
from mae_et.training.trainer import Trainer
from tests.support.arguments import tiny
from tests.support.compare import assert_same_weights

METHODS = ("greedy", "sequential")
SEARCH = {
    "greedy": ("--stages=3", "--seeds=2", "--tolerance=99"),
    "sequential": ("--stages=3", "--seeds=1"),
}


def arguments(path: str, folder: Path, method: str, **overrides: object) -> list[str]:
    """A search whose runs have 20 steps at full size; greedy takes the smallest sizes."""
    probe = {"probe__linear_epochs": 4, "probe__linear_warmup_epochs": 1, "optim__epochs": 5}
    options = tiny(path, folder, **{**probe, **overrides})
    search = ["search", f"--method={method}", "--sizes=[8]", "--epochs=4", *SEARCH[method]]
    return [*search, *options]


def count_steps(monkeypatch: pytest.MonkeyPatch, at: Callable[[int], None]) -> list[int]:
    """The steps that are trained from now on; `at` is told how many before, before each."""
    steps: list[int] = []
    train_step = Pretrainer.train_step

    def counted(self: Pretrainer, step: int, *rest: Any) -> Any:
        at(len(steps))
        steps.append(step)
        return train_step(self, step, *rest)

    monkeypatch.setattr(Pretrainer, "train_step", counted)
    return steps


def trial_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]


def without_time(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in trial_lines(folder)]


@pytest.fixture(scope="module")
def searches(clothes: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By method: the folder of a search, and the number of its training steps."""
    found = {}
    for method in METHODS:
        folder = tmp_path_factory.mktemp("search") / method
        with pytest.MonkeyPatch.context() as patch:
            steps = count_steps(patch, lambda _: None)
            assert main(arguments(clothes, folder, method)) == 0
        found[method] = (folder, len(steps))
    return found


@pytest.mark.parametrize("method", METHODS)
def test_what_schedules_have_in_common_is_trained_once(
    searches: dict[str, Any], method: str
) -> None:
    """As many steps as there are different pasts: sizes of the steps up to one, by seed."""
    folder, num_steps = searches[method]
    pasts = set()
    for line in trial_lines(folder):
        stages = [part.split("@") for part in line["folder"].partition("/")[2].split("-")]
        sizes = [int(size) for size, steps in stages for _ in range(int(steps))]
        assert len(sizes) == line["steps"]
        pasts |= {(line["seed"], *sizes[:step]) for step in range(1, len(sizes) + 1)}
    assert num_steps == len(pasts)
    assert num_steps <= 0.9 * sum(line["steps"] for line in trial_lines(folder))


def test_trials_have_the_stages_the_scores_and_the_costs(searches: dict[str, Any]) -> None:
    lines = trial_lines(searches["greedy"][0])
    assert [line["sizes"] for line in lines] == [[16, 16, 16]] * 2 + [[8, 16, 16]] * 2 + [
        [8, 8, 16]
    ] * 2
    assert [line["seed"] for line in lines] == [0, 1] * 3
    assert {line["steps"] for line in lines} == {20}
    assert lines[0]["cost"] == 1
    # 7 and 13 of 20 steps at a quarter of the patches, whose cost is a quarter and something.
    assert 1 - 0.75 * 7 / 20 < lines[2]["cost"] < 1 - 0.65 * 7 / 20
    assert 1 - 0.75 * 13 / 20 < lines[4]["cost"] < 1 - 0.65 * 13 / 20
    # A stage of 20/3 steps at full size has 27 at 8 pixels; the phase after it has one.
    lines = trial_lines(searches["sequential"][0])
    assert [line["steps"] for line in lines[:2]] == [28, 8]
    for folder, _ in searches.values():
        for line in trial_lines(folder):
            scores = Run(folder / line["folder"]).read_metrics()[-1]
            assert scores["linear_top1"] == line["score"]
            assert line["score"] * 8 == int(line["score"] * 8)  # of a tenth of the training images


@pytest.mark.parametrize("method", METHODS)
def test_a_run_in_pieces_is_the_uninterrupted_one(
    searches: dict[str, Any], method: str, tmp_path: Path
) -> None:
    folder, _ = searches[method]
    chosen = [line for line in trial_lines(folder) if line["sizes"][0] < 16][-1]
    pieces = folder / chosen["folder"]
    whole = ["--config", str(pieces / "config.yaml"), f"--run.output_dir={tmp_path / 'run'}"]
    assert main(["pretrain", *whole]) == 0
    assert_same_weights(pieces, tmp_path / "run")


def test_an_interrupted_search_goes_on(
    searches: dict[str, Any],
    clothes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It crashes, is asked to stop, and goes on; in the end nothing tells it from the other.

    27 steps go to size 8 and one to the phase, at whose end, the run's, it is asked to stop.
    """
    folder, num_steps = searches["sequential"]
    command = arguments(clothes, tmp_path / "search", "sequential")

    def crash(count: int) -> None:
        if count == 25:
            raise MemoryError

    with monkeypatch.context() as patch:
        count_steps(patch, crash)
        assert main(command) == 1
        assert "MemoryError" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        stopping = count_steps(
            patch, lambda count: os.kill(os.getpid(), signal.SIGTERM) if count == 3 else None
        )
        assert main(command) == os.EX_TEMPFAIL
        assert "the same command continues" in capsys.readouterr().err
    rest = count_steps(monkeypatch, lambda _: None)
    assert main(command) == 0
    assert without_time(tmp_path / "search") == without_time(folder)
    for line in trial_lines(folder):
        assert_same_weights(tmp_path / "search" / line["folder"], folder / line["folder"])
    assert len(stopping) == 4
    assert 25 + 4 + len(rest) == num_steps + 1  # the step since the last checkpoint, by the crash
    rest.clear()
    assert main(command) == 0
    assert rest == []


@pytest.mark.parametrize("method", METHODS)
def test_the_recipe_trains_and_tells_how_it_was_found(
    searches: dict[str, Any], method: str, tmp_path: Path
) -> None:
    folder, _ = searches[method]
    recipe = folder / "recipe.yaml"
    header = [line for line in recipe.read_text().splitlines() if line.startswith("#")]
    assert f"mae_et search --method={method}" in header[2]
    lines = [line for line in trial_lines(folder) if line["seed"] == 0]
    for row, line in zip(header[5:], lines, strict=False):
        start = f"# {line['purpose']:<10} {'-'.join(map(str, line['sizes']))} "
        assert row.startswith(start)
        assert f"  {line['score']:.2%}" in row
    chosen = "-".join(
        str(stage["size"]) for stage in yaml.safe_load(recipe.read_text())["curriculum"]["stages"]
    )
    assert f"# chosen: {chosen}, " in recipe.read_text()
    config = yaml.safe_load(recipe.read_text())
    assert config["optim"]["epochs"] == 5  # of the run, not of the trials
    assert config["curriculum"]["cost"] == {"greedy": None, "sequential": "area"}[method]
    run = tmp_path / "run"
    assert main(["pretrain", "--config", str(recipe), f"--run.output_dir={run}"]) == 0
    sizes = [line["size"] for line in Run(run).read_metrics() if "loss" in line]
    assert sorted(set(sizes)) == sorted({stage["size"] for stage in config["curriculum"]["stages"]})
    assert Run(run).read_config()["data"] == config["data"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method=random"], "greedy"),
        (["--sizes=[8,10]"], "multiple of the patch size 4"),
        (["--sizes=[8,20]"], "at most the full size 16"),
        (["--sizes=[16]"], "--sizes must be some below model.image_size 16"),
        (["--stages=1"], "--stages must be at least 2, got 1"),
        (["--stages=40"], "at least 40 steps, one for each stage, got num_steps 20"),
        (["--seeds=0"], "--seeds must be above 0, got 0"),
        (["--epochs=0"], "--epochs must be above 0, got 0"),
        (["--tolerance=-1"], "--tolerance must be in [0, 100), got -1"),
        (["--method=sequential", "--phase=0"], "--phase must be in (0, 1], got 0"),
        (
            ["--method=sequential", "--stages=9", "--sizes=[8]", "--epochs=0.5"],
            "--epochs must be enough steps for 9 stages of equal cost (now",
        ),
        (["--eval.label_column=image"], "eval.label_column must hold class labels"),
        (["--eval.label_column=name"], "eval.label_column must be one of label"),
        (["--data.replay=[{size: 8, ratio: 2, batches: 1}]"], "data.replay must be empty"),
        (["--out=nowhere/recipe.yaml"], "--out must be a file to write to"),
        (["--out=."], "--out must be a file to write to"),
    ],
)
def test_bad_options_are_one_line_before_training(
    options: list[str],
    message: str,
    clothes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Trainer, "train_step", None)
    assert main([*arguments(clothes, tmp_path / "search", "greedy"), *options]) == 2
    error = capsys.readouterr().err
    *told, line = error.splitlines()
    assert message in line
    assert not any("rror" in other for other in told)
    assert not (tmp_path / "search").exists()


def test_a_folder_belongs_to_one_configuration(
    searches: dict[str, Any],
    clothes: str,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, _ = searches["greedy"]
    assert main(arguments(clothes, folder, "greedy", optim__base_lr=0.02)) == 2
    assert "optim.base_lr: 0.01 -> 0.02" in capsys.readouterr().err
    assert main([*arguments(clothes, folder, "greedy"), "--score=knn"]) == 2
    assert "search.score: linear -> knn" in capsys.readouterr().err
    assert main([*arguments(clothes, folder, "greedy"), "--eval.images=70"]) == 2
    assert "eval.images: 10000 -> 70" in capsys.readouterr().err
    assert main(arguments(clothes, finished, "greedy")) == 2
    assert "run.output_dir must be new, or that of a search" in capsys.readouterr().err
