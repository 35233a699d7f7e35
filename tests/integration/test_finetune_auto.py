"""Fine-tuning on images and a checkpoint alone, by command, from Python and in a notebook."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import finetune
from finetune.__main__ import main
from mae_et.runs import Run

SHORT = ("--probe.linear_epochs=2", "--probe.linear_warmup_epochs=1", "--probe.k=3")
FEW = ("--run.tracker=none", "--data.num_workers=0", "--run.patience=1")
QUICK = (*FEW, "--optim.base_lr=0.002")


def test_what_the_checkpoint_knows_is_not_asked_for(
    finished: Path, clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main([clothes, f"--checkpoint={finished}", f"--out={out}", *QUICK]) == 0
    said = capsys.readouterr().err
    assert re.search(r"model\.image_size +16 +that of .*finished", said)
    assert re.search(r"optim\.batch_size +8 +recipe small_data, for 80 labels of 10 classes", said)
    config, pretrained = Run(out).read_config(), Run(finished).read_config()
    for name in ("encoder", "image_size", "patch_size", "in_chans"):
        assert config["model"][name] == pretrained["model"][name]
    for name in ("mean", "std"):
        assert config["data"][name] == pretrained["data"][name]
    arguments = pretrained["model"]["encoder_args"]
    assert arguments.items() <= config["model"]["encoder_args"].items()
    assert config["optim"]["layer_decay"] == 0.75  # the recipe's
    assert "checkpoint" not in said.partition("trained on images normalised by")[2]

    step = Run(out).read_metrics()[-1]["step"]
    assert main([clothes, f"--checkpoint={finished}", f"--out={out}", "--resume=auto"]) == 0
    assert Run(out).read_metrics()[-1]["step"] == step


def test_hours_choose_the_epochs(
    finished: Path, clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    options = [f"--checkpoint={finished}", "--hours=0.03", f"--out={out}", *QUICK]
    assert main([clothes, *options]) == 0
    said = capsys.readouterr().err
    assert re.search(r"optim\.epochs +[\d.]+ +0\.03 hours at most, at the measured [\d,]+", said)
    optim = Run(out).read_config()["optim"]
    assert optim["epochs"] >= 1
    assert optim["warmup_epochs"] == pytest.approx(3 / 40 * optim["epochs"], rel=0.02)


@pytest.mark.parametrize("mode", ["knn", "linear"])
def test_probes_need_no_more(mode: str, finished: Path, clothes: str, tmp_path: Path) -> None:
    for checkpoint in (finished, finished / "encoder"):
        out = tmp_path / checkpoint.name
        options = [f"--checkpoint={checkpoint}", f"--mode={mode}", f"--out={out}", *QUICK]
        assert main([clothes, *options, *SHORT]) == 0


def test_a_share_of_each_class_is_held_out_where_there_is_no_split(
    finished: Path, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    options = [f"--checkpoint={finished}", f"--out={out}", "--optim.epochs=1", *QUICK]
    assert main([str(image_folder), *options]) == 0
    assert "60 images, 20 held out" in capsys.readouterr().err  # of 8 of each of 10 classes
    assert Run(out).read_config()["data"]["eval_share"] == 0.2
    options[1] = f"--out={tmp_path}/other"
    assert main([str(image_folder), *options, "--data.eval_share=null"]) == 2
    (line,) = [row for row in capsys.readouterr().err.splitlines() if row.startswith("error")]
    assert "--data.eval_share 0.2 holds out a fifth of each class" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint={run}", "--mode=knn", "--hours=1"], "left out with --mode knn"),
        (["--checkpoint={run}", "--model.encoder=vit_small_patch16_224"], "or 'vit_tiny_patch16"),
        ([], "--checkpoint must be an encoder; a recipe such as --config et_resnet50 trains"),
        (["--checkpoint=none"], "--checkpoint must be an encoder; a recipe such as"),
        (["--checkpoint=nowhere"], "checkpoint must exist, got nowhere"),
        (["--checkpoint={run}", "--hours=1e-9"], "--hours must be at least 0.0"),
        (["--checkpoint={run}", "--hours=1", "--optim.epochs=2"], "left out, since optim.epochs"),
        (
            ["--checkpoint={run}", "--model.in_chans=3"],
            "in_chans must be left out, or 1 as in",
        ),
        (["--checkpoint={run}", "--model.patch_size=8"], "patch_size must be left out, or 4 as in"),
        (["--config=small_data", "--checkpoint={run}", "--hours=1"], "left out with a recipe"),
    ],
)
def test_bad_lines(
    finished: Path,
    clothes: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    out = tmp_path / "run"
    line = [argument.format(run=finished) for argument in arguments]
    assert main([clothes, f"--out={out}", *QUICK, *line]) == 2
    errors = [row for row in capsys.readouterr().err.splitlines() if row.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]


def test_the_python_api(finished: Path, clothes: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"run": {"tracker": "none"}, "data": {"num_workers": 0}}
    settings["optim"] = {"epochs": 1, "warmup_epochs": 0}
    run = finetune.finetune(clothes, checkpoint=finished, out=tmp_path / "run", **settings)
    assert len(run.class_names) == 10
    assert run.metrics["top1"].notna().any()
    logits = run.classifier()(torch.zeros(2, 1, 16, 16))
    assert logits.shape == (2, 10)
    assert repr(run) == f"ClassifierRun('{tmp_path}/run')"
    with pytest.raises(ValueError, match="--checkpoint must be an encoder"):
        finetune.finetune(clothes)


@pytest.mark.slow
def test_a_notebook(image_folder: Path, tmp_path: Path) -> None:
    """An automatic run, a figure, and an error of one line; the tutorial has several runs."""
    import nbformat
    from nbclient import NotebookClient

    settings = (
        "run={'tracker': 'none'}, data={'num_workers': 1}, optim={'epochs': 4, 'batch_size': 16}"
    )
    folder = repr(str(image_folder))
    cells = [
        "import mae_et",
        f"run = mae_et.pretrain({folder}, out='one', {settings})",
        "run.reconstruct(num_images=2)",
        "float(run.metrics['eval_loss'].iloc[-1])",
        "run.encoder().num_features",
        "try:\n    mae_et.pretrain('nowhere.png')\nexcept ValueError as error:\n    print(error)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [cell.outputs for cell in notebook.cells]
    assert "image/png" in outputs[2][-1].data
    assert float(outputs[3][-1].data["text/plain"]) > 0
    assert outputs[4][-1].data["text/plain"] == "96"
    printed = "".join(output.get("text", "") for output in outputs[5])
    assert "data.path must exist, got 'nowhere.png'" in printed
    said = "".join(output.get("text", "") for output in outputs[1])
    assert "model.in_chans" in said
    assert "left, loss" in said


def test_many_images_to_evaluate_on_are_evaluated_more_rarely(
    finished: Path, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    options = [f"--checkpoint={finished}", f"--out={out}", "--data.eval_share=0.75", *QUICK]
    assert main([str(image_folder), "--optim.epochs=3", *options]) == 0
    assert "every 2 epochs, since 60 images to evaluate on" in capsys.readouterr().err
    run = Run(out)
    steps = [line["step"] for line in run.read_metrics() if "top1" in line]
    every = run.section("run")["eval_every"]
    assert every == 2 * 20 // run.section("optim")["batch_size"]
    assert steps[:2] == [0, every]


def test_few_labels_choose_their_learning_rate(
    finished: Path, clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By two halves of them, which leaves the images to evaluate on alone."""
    out = tmp_path / "run"
    options = [clothes, f"--checkpoint={finished}", f"--out={out}", *FEW, "--optim.epochs=2"]
    assert main(options) == 0
    said = capsys.readouterr()
    assert "optim.base_lr: of 0.004, 0.016, 0.064, by 2 halves of the labels in 3 times" in said.err
    table = json.loads((tmp_path / "run_folds" / "sweep.json").read_text())
    best = max(table, key=lambda row: float(row["last"]))
    assert f"chosen by 2 folds: optim.base_lr {best['base_lr']:g}" in said.out
    run = Run(out)
    assert run.section("optim")["base_lr"] == best["base_lr"]
    assert run.section("images")["train"] == 80
    half = Run(tmp_path / "run_folds" / "base_lr_0.064" / "fold_2").section("images")
    assert half["train"] == half["eval"] == 40

    shutil.rmtree(out)
    assert main(options) == 2  # its folds are still there
    assert "run_folds/base_lr_0.004/fold_1" in capsys.readouterr().err
    assert main([*options, "--resume=auto"]) == 0
    assert Run(out).section("optim")["base_lr"] == best["base_lr"]


def test_too_few_hours_leave_the_rate_to_the_recipe(
    finished: Path, clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    options = [f"--checkpoint={finished}", "--hours=0.003", f"--out={out}", *FEW]
    assert main([clothes, *options]) == 0
    assert "halves of the labels" not in capsys.readouterr().err
    assert Run(out).section("optim")["base_lr"] == 0.002


@pytest.mark.parametrize("kind", ["knn", "linear"])
def test_probes_from_python(kind: Any, finished: Path, clothes: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "data": {"num_workers": 0},
        "probe": {"linear_epochs": 2, "linear_warmup_epochs": 1, "k": 3},
    }
    scores = finetune.probe_encoder(
        clothes, checkpoint=finished, kind=kind, out=tmp_path / "probes", **settings
    )
    assert 0 < scores["top1"] <= 1
    assert scores["mode"] == kind
    assert (scores["train_images"], scores["test_images"]) == (80, 30)
    with pytest.raises(ValueError, match="mode must be finetune; finetune"):
        finetune.finetune(clothes, checkpoint=finished, mode=kind)
