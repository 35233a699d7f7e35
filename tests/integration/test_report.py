"""The report: arms, costs and accuracies of run folders, and the page."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from finetune.__main__ import main as finetune_main
from mae_et.__main__ import main
from tests.support.arguments import tiny, tiny_finetune
from tests.support.page import Page
from tests.support.run_folders import arms_of, lines, pretraining


def test_flops_are_those_of_the_plan(
    clothes: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *tiny(clothes, "unused"), "--json=-"]) == 0
    planned = json.loads(capsys.readouterr().out)["exaflops"] * 1e18
    (arm,) = arms_of(finished).values()
    assert arm.flops == [pytest.approx(planned)]


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
    assert len(page.pictures) == 6  # two panels for a task of several arms and 2 groups of losses
    cells = {row[0]: row[1:] for row in reversed(page.rows)}
    assert cells["long"][:2] == ["pixel", "2+ 1 unfinished"]
    assert cells["long"][3:] == [
        "8.500 ± 0.707 (2)",
        "0.5500 ± 0.0707 (2)",
        "82.00 ± 2.83 (2)",
        "66.00 (1)",
    ]
    assert cells["scratch"] == ["–", "2", "0", "0", "–", "55.00 ± 7.07 (2)", "–"]
    assert "Fine-tuned, 80 labels: long has the highest mean, 82.00 % (2 runs)." in page.text
    assert page.unaligned == []
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
    assert kinds == 4 * ["data:image/svg+xml"]
    assert "Not drawn: no images and no checkpoints are opened. --reconstructions" in page.text
    for asked in (["--reconstructions"], [f"--data.path={clothes}", "--data.split=test"]):
        assert main(["report", str(finished), *asked, f"--out={out}"]) == 0
        kinds = [part.partition(";")[0] for part in Page(out.read_text()).pictures]
        assert kinds == [*2 * ["data:image/svg+xml"], "data:image/png"]
    stages = [row[-5:-3] for row in page.rows if row[-1].endswith("%")]
    assert stages[:3] == [["8", "10"], ["12", "5"], ["16", "5"]]
    top1 = json.loads((tuned / "report.json").read_text())["top1"]
    (row,) = [row for row in page.rows if row[0] == "run" and len(row) == 7]
    assert row[-1] == f"{100 * top1:.2f} (1)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "RUN must be a folder, got 'nowhere'"),
        (["."], "no runs found in ."),
        ([".", "--out=no/page.html"], "--out must be an .html file in a folder that exists"),
        ([".", "--out=page.txt"], "--out must be an .html file in a folder that exists"),
        (
            [".", "--reconstructions", "--no_reconstructions"],
            "--no_reconstructions must be left out with --reconstructions or --data.path",
        ),
        ([".", "--data.split=test"], "--data.split must be together with --data.path"),
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
    assert rows["run"][1:4] == ["1", "–", "1.000 (1)"]
    assert rows["FLOPs unknown"][0].startswith(f"{run}: ")


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_without_a_package(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # its import fails
    assert main(["report", str(study), f"--out={study / 'page.html'}"]) == 2
    message = f"error: report needs {package}: pip install -e '.[report]' in the clone\n"
    assert capsys.readouterr().err == message
