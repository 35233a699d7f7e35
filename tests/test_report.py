"""The report: arms, costs and accuracies of run folders, and the page."""

from __future__ import annotations

import json
import sys
from html.parser import HTMLParser
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import yaml

from finetune.__main__ import main as finetune_main
from mae_et.__main__ import main
from mae_et.report.arms import Arm, group_into_arms, spread
from mae_et.report.charts import accuracy_against_cost, style
from mae_et.report.page import facts
from mae_et.report.sections import mean_and_deviation, name_tasks
from mae_et.runs import find_runs

from .conftest import tiny, tiny_finetune

MODEL = {
    "encoder": "vit_tiny_patch16_224",
    "encoder_args": {"embed_dim": 16, "depth": 1, "num_heads": 2},
    "image_size": 16,
    "patch_size": 4,
    "in_chans": 1,
    "decoder_dim": 16,
    "decoder_depth": 1,
    "decoder_num_heads": 2,
    "target": "pixel",
}


def lines(*windows: tuple[int, int, int, float], eval_loss: float = 0.5) -> list[dict[str, Any]]:
    """Of metrics.jsonl: (step, size, images, seconds) each, and a last evaluation."""
    names = ("step", "size", "images", "seconds")
    logged = [
        {**dict(zip(names, window, strict=True)), "loss": 1.0, "data_wait": 0.25, "time": 1e9}
        for window in windows
    ]
    return [*logged, {"step": windows[-1][0], "eval_loss": eval_loss}]


def write(folder: Path, config: dict[str, Any], metrics: list[dict[str, Any]], result: str) -> Path:
    """A run's folder; of an unfinished run, without a result."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, metrics)))
    if result:
        (folder / result).mkdir()
    return folder


def pretraining(
    folder: Path, seed: int, metrics: list[dict[str, Any]], *, result: str = "encoder", **optim: Any
) -> Path:
    config = {
        "model": MODEL,
        "data": {"path": "parquet:x"},
        "optim": {"batch_size": 16, "epochs": 1, **optim},
        "run": {"seed": seed, "output_dir": str(folder)},
        "images": {"train": 80, "eval": 20},
    }
    return write(folder, config, metrics, result)


def finetuning(folder: Path, seed: int, checkpoint: Path | str, top1: float, **optim: Any) -> Path:
    config = {
        "checkpoint": str(checkpoint),
        "model": {name: MODEL[name] for name in ("encoder", "image_size", "in_chans")},
        "data": {"path": "parquet:x", "label_seed": seed},
        "optim": {"batch_size": 16, "epochs": 2, **optim},
        "run": {"seed": seed, "output_dir": str(folder)},
        "images": {"train": 80, "eval": 30},
    }
    metrics = lines((10, 16, 160, 2.0))
    metrics.insert(1, {"step": 5, "top1": 0.99, "eval_loss": 1.0})  # better, but not the last
    metrics[-1]["top1"] = top1
    return write(folder, config, metrics, "last")


def arms_of(*folders: Path) -> dict[str, Arm]:
    runs, _ = find_runs([str(folder) for folder in folders])
    return {arm.name: arm for arm in group_into_arms(runs)}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two arms of two seeds, and one from scratch, fine-tuned; a probe."""
    top1 = {"long": (0.8, 0.84), "short": (0.7, 0.75), "none": (0.5, 0.6)}
    for seed in range(2):
        for name, epochs in (("long", 4), ("short", 2)):
            steps = 5 * epochs
            windows = (steps // 2, 8, 8 * steps, 3.0 + seed), (steps, 16, 8 * steps, 5.0)
            metrics = lines(*windows, eval_loss=0.5 + seed / 10)
            run = pretraining(tmp_path / f"{name}_{seed}", seed, metrics, epochs=epochs)
            folder = tmp_path / f"tuned_{name}_{seed}"
            finetuning(folder, seed, run / "encoder", top1[name][seed])
        finetuning(tmp_path / f"scratch_{seed}", seed, "none", top1["none"][seed], layer_decay=1)
    probe = {"mode": "knn", "checkpoint": str(tmp_path / "long_1" / "encoder"), "k": 20}
    (tmp_path / "probe").mkdir()
    probe |= {"train_images": 80, "test_images": 30, "top1": 0.66}
    (tmp_path / "probe" / "knn.json").write_text(json.dumps(probe))
    return tmp_path


def test_seeds_are_grouped_and_scores_follow_their_checkpoint(study: Path) -> None:
    arms = arms_of(study)
    assert list(arms) == ["long", "short", "scratch"]
    names = name_tasks(list(arms.values()))
    scores = {
        (arm.name, names[task]): [run.top1[task.kind] for run in runs]
        for arm in arms.values()
        for task, variants in arm.scores.items()
        for runs in variants.values()
    }
    assert scores == {
        ("long", "fine-tuned, 80 labels"): [0.8, 0.84],
        ("long", "knn probe, 80 labels"): [0.66],
        ("short", "fine-tuned, 80 labels"): [0.7, 0.75],
        ("scratch", "fine-tuned, 80 labels"): [0.5, 0.6],
    }
    assert arms["long"].seconds == [8.0, 9.0]
    assert arms["long"].eval_losses == [0.5, 0.6]
    assert arms["scratch"].seconds == []


def test_a_probe_while_pretraining_is_named_by_what_it_measures_on(tmp_path: Path) -> None:
    for name, epochs in (("long", 2), ("short", 1)):
        run = pretraining(tmp_path / name, 0, lines((10, 16, 160, 1.0)), epochs=epochs)
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["data"]["path"] = f"parquet:{name}"
        config["eval"] = {"path": "parquet:labelled", "images": 50}
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        with (run / "metrics.jsonl").open("a") as file:
            file.write('\n{"step": 10, "knn_top1": 0.5}')
    arms = arms_of(tmp_path)
    (task,) = {task for arm in arms.values() for task in arm.scores}
    assert (task.kind, task.data, task.train_images) == ("knn", "parquet:labelled", 50)


def test_mean_and_deviation() -> None:
    values = [80.0, 84.0, 81.0]
    assert spread(values) == (mean(values), stdev(values))
    assert mean_and_deviation(values, "{:.2f}") == "81.67 ± 2.08 (3)"
    assert mean_and_deviation([80.0], "{:.2f}") == "80.00 (1)"
    assert mean_and_deviation([], "{:.2f}") == "–"


def test_flops_are_those_of_the_plan(
    clothes: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *tiny(clothes, "unused"), "--json=-"]) == 0
    planned = json.loads(capsys.readouterr().out)["exaflops"] * 1e18
    (arm,) = arms_of(finished).values()
    assert arm.flops == [pytest.approx(planned)]


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


def test_another_setting_is_another_arm_or_line(study: Path) -> None:
    finetuning(study / "tuned_other", 0, study / "long_0" / "encoder", 0.9, layer_decay=0.5)
    (variants,) = [v for task, v in arms_of(study)["long"].scores.items() if task.kind != "knn"]
    assert sorted(map(len, variants.values())) == [1, 2]
    pretraining(study / "long_wide", 0, lines((10, 16, 160, 1.0)), epochs=4, weight_decay=0.1)
    names = arms_of(study).keys()
    assert names == {"long", "short", "long_wide", "scratch"}


def test_how_a_run_is_logged_makes_no_arm(tmp_path: Path) -> None:
    windows = lines((10, 16, 160, 1.0))
    for number, every in enumerate((10, 50)):
        folder = pretraining(tmp_path / f"run_{number}", 0, windows)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["run"] |= {"log_every": every, "checkpoint_every": every, "progress": every == 10}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (arm,) = arms_of(tmp_path).values()
    assert len(arm.runs) == 2


def test_a_name_too_long_for_a_chart_is_a_number(tmp_path: Path) -> None:
    windows = lines((10, 16, 160, 1.0))
    for epochs in (2, 3):
        folder = tmp_path / ("a" * 70 + str(epochs)) / "run"
        pretraining(folder, 0, windows, epochs=epochs, **{"b" * 70: epochs})
    assert set(arms_of(tmp_path)) == {"arm 1", "arm 2"}


def test_a_name_keeps_numbers_that_are_no_seed(tmp_path: Path) -> None:
    """Seed 0 is no part of 100, nor seed 5 of 75."""
    windows = lines((10, 16, 160, 1.0))
    pretraining(tmp_path / "steps_100", 0, windows, epochs=2)
    pretraining(tmp_path / "mask_75", 5, windows, epochs=3)
    pretraining(tmp_path / "wide_s5", 5, windows, epochs=4)
    assert set(arms_of(tmp_path)) == {"steps_100", "mask_75", "wide"}


def test_a_moved_tree_keeps_its_links(study: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved" / "deeper"
    moved.mkdir(parents=True)
    for run in [run for run in study.iterdir() if run.name != "moved"]:
        run.rename(moved / run.name)
    assert sum(map(len, arms_of(moved)["long"].scores.values())) == 2
    unknown = arms_of(moved / "tuned_long_0")
    checkpoint = study / "long_0" / "encoder"
    assert list(unknown) == [f"from {checkpoint} (its pretraining is not given)"]


def test_a_moved_run_belongs_to_the_longest_path_that_fits(tmp_path: Path) -> None:
    """Another arm's run of the same name lies nearer."""
    windows = lines((10, 16, 160, 1.0))
    for name, epochs in (("long", 4), ("short", 2)):
        pretraining(tmp_path / name / "seed_0", 0, windows, epochs=epochs)
    finetuning(tmp_path / "short" / "tuned", 0, "gone/long/seed_0/encoder", 0.8)
    assert {name: len(arm.scores) for name, arm in arms_of(tmp_path).items()} == {
        "long": 1,
        "short": 0,
    }


def test_chart_shows_means_and_deviations(study: Path) -> None:
    arms = list(arms_of(study).values())
    tasks = {task: name for task, name in name_tasks(arms).items() if task.kind == "fine-tuned"}
    figure = accuracy_against_cost(arms, tasks)
    assert figure is not None
    _, seconds = figure.axes
    points = {bars.get_label(): bars.lines[0].get_xydata().tolist() for bars in seconds.containers}
    assert points["long"] == [pytest.approx([8.5, 82.0])]
    assert points["short"] == [pytest.approx([8.5, 72.5])]
    (level,) = [line for line in seconds.lines if line.get_label() == "scratch"]
    assert level.get_ydata() == pytest.approx([55, 55])


def test_arms_look_different() -> None:
    assert len({style(index) for index in range(28)}) == 28


class Page(HTMLParser):
    """The rows of a page's tables, its pictures, and everything that it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.pictures: list[str] = []
        self.fetched: list[str] = []
        self.is_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.is_cell = True
        source = dict(attributes).get("src") or dict(attributes).get("href") or ""
        (self.pictures if source.startswith("data:image/") else self.fetched).append(source)

    def handle_endtag(self, tag: str) -> None:
        self.is_cell = self.is_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.is_cell:
            self.rows[-1][-1] += data


def test_page_of_broken_and_unfinished_runs(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretraining(study / "long_2", 2, lines((5, 8, 80, 1.0))[:1], epochs=4, result="")
    broken = {"no_config": "{", "no_mapping": "3"}
    for name, text in broken.items():
        (study / name).mkdir()
        (study / name / "config.yaml").write_text(text)
    pretraining(study / "no_numbers", 0, lines((5, 8, 0, 1.0)))
    for name, score in (("no_score", "null"), ("no_word", '"high"')):
        (study / name).mkdir()
        (study / name / "knn.json").write_text(f'{{"checkpoint": "x", "top1": {score}}}')
    (study / "no_lines" / "metrics.jsonl").mkdir(parents=True)
    (study / "no_lines" / "config.yaml").write_text("model: {decoder_dim: 3}")
    (study / "<b>empty").mkdir()
    out = study / "page.html"
    arguments = ["report", str(study), f"--out={out}", "--title=<i>A & B</i>"]
    assert main([*arguments, "--no_reconstructions"]) == 0
    assert "report: " in capsys.readouterr().out
    text = out.read_text()
    assert "<b>" not in text
    assert "<h1>&lt;i&gt;A &amp; B&lt;/i&gt;</h1>" in text
    page = Page(text)
    assert not any(page.fetched)
    assert len(page.pictures) == 3
    cells = {row[0]: row[1:] for row in reversed(page.rows)}
    assert cells["long"][:1] == ["2 + 1 unfinished"]
    assert cells["long"][2:] == [
        "8.5 ± 0.7071 (2)",
        "0.5500 ± 0.0707 (2)\npixel",
        "82.00 ± 2.83 (2)",
        "66.00 (1)",
    ]
    assert cells["scratch"] == ["2", "0", "0", "–", "55.00 ± 7.07 (2)", ""]
    listed = {(Path(row[1].partition(":")[0]).name, row[0]) for row in page.rows if len(row) == 2}
    odd = ("no_numbers", "no_score", "no_word", "no_lines", "<b>empty")
    skipped = {(name, "skipped") for name in (*broken, *odd)}
    assert {*skipped, ("long_2", "unfinished")} <= listed


def test_page_of_real_runs(clothes: str, finished: Path, tmp_path: Path) -> None:
    tuned, out = tmp_path / "tuned", tmp_path / "page.html"
    options = {"checkpoint": finished / "encoder", "optim__epochs": 1, "optim__warmup_epochs": 0}
    assert finetune_main(tiny_finetune(clothes, tuned, **options)) == 0
    assert main(["report", str(finished), str(tuned), f"--out={out}"]) == 0
    page = Page(out.read_text())
    kinds = [picture.partition(";")[0] for picture in page.pictures]
    assert kinds == [*3 * ["data:image/svg+xml"], "data:image/png"]
    stages = [row[2:4] for row in page.rows if row[0] == "run" and len(row) == 7]
    assert stages == [["8", "10"], ["12", "5"], ["16", "5"]]
    top1 = json.loads((tuned / "report.json").read_text())["top1"]
    (row,) = [row for row in page.rows if row[0] == "run" and len(row) == 6]
    assert row[-1] == f"{100 * top1:.2f} (1)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "RUN must be a folder, got 'nowhere'"),
        (["."], "no runs found in ."),
        ([".", "--out=no/page.html"], "--out must be an .html file in a folder that exists"),
        ([".", "--out=page.txt"], "--out must be an .html file in a folder that exists"),
        ([".", "--titel=x"], "unknown option titel; nearest: title"),
    ],
)
def test_bad_input(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_a_model_of_another_version_has_no_flops(tmp_path: Path) -> None:
    run = pretraining(tmp_path / "run", 0, lines((10, 16, 160, 1.0)))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["unknown"] = 1
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (arm,) = arms_of(run).values()
    assert (arm.flops, arm.seconds) == ([], [1.0])
    out = tmp_path / "page.html"
    assert main(["report", str(run), f"--out={out}"]) == 0
    rows = {row[0]: row[1:] for row in reversed(Page(out.read_text()).rows)}
    assert rows["run"][:3] == ["1", "–", "1 (1)"]
    assert rows["FLOPs unknown"][0].startswith(f"{run}: ")


def test_the_cost_of_given_weights_is_not_counted(tmp_path: Path) -> None:
    run = pretraining(tmp_path / "run", 0, lines((10, 16, 160, 1.0)))
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"checkpoint": "mae.pth"}))
    runs, _ = find_runs([str(run)])
    assert "what its weights cost before, mae.pth" in facts(runs, [], "")


def test_without_matplotlib(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # its import fails
    assert main(["report", str(study), f"--out={study / 'page.html'}"]) == 2
    message = "error: report needs matplotlib: pip install 'mae-et[report]'\n"
    assert capsys.readouterr().err == message
