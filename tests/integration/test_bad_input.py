"""Every bad input is one line that names the field, the value and what is allowed, and exit code 2.

All of it before any training: no run folder holds a checkpoint afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from finetune.__main__ import main as finetune_main
from mae_et.__main__ import main
from mae_et.runs import Run
from tests.support.arguments import tiny, tiny_finetune
from tests.support.images import damaged_folder
from tests.support.launch import launch_two

HOLD_LOCK = """
import fcntl, sys, time
with open(sys.argv[1], "a") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    print("locked", flush=True)
    time.sleep(600)
"""


def error_of(
    arguments: list[str], capsys: pytest.CaptureFixture[str], command: str = "pretrain"
) -> str:
    """The one line of a command that fails."""
    code = finetune_main(arguments) if command == "finetune" else main([command, *arguments])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert code == 2
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ({"optim.epochs": 0}, "optim.epochs must be above 0 and finite, got 0"),
        ({"optim.epochs": -3}, "optim.epochs must be above 0"),
        ({"model.encoder": 5}, "model.encoder must be the name of a timm VisionTransformer, got"),
        ({"optim.epochs": ".inf"}, "optim.epochs must be above 0 and finite, got inf"),
        ({"optim.base_lr": ".inf"}, "optim.base_lr must be above 0 and finite"),
        ({"optim.min_lr": 5}, "optim.min_lr must be in [0, peak]"),
        ({"optim.betas": "[2, 3]"}, "optim.betas must be in [0, 1)"),
        (
            {"optim.batch_size": 320, "optim.micro_batch_size": "null"},
            "must have at least 3 steps, one for each stage, got num_steps 1; a larger",
        ),
        ({"run.mixed_precision": "fp16"}, "run.mixed_precision must be no or bf16 on a CPU"),
        ({"model.patch_size": 0}, "model.encoder must be"),
        ({"optim": 3}, "optim"),
        ({"optim.batch_size": 0}, "optim.batch_size must be above 0"),
        ({"optim.micro_batch_size": -1}, "optim.micro_batch_size must be above 0 or null"),
        ({"optim.warmup_epochs": 9}, "optim.warmup_epochs must be in [0, optim.epochs"),
        ({"data.num_workers": -1}, "data.num_workers must be at least 0, got -1"),
        ({"data.crop_scale": "[0.5, 0.2]"}, "data.crop_scale"),
        ({"data.first_crop_scale": "[0.5, 2]"}, "data.first_crop_scale must be 0 < least"),
        ({"data.color_jitter": 0}, "data.color_jitter must be in (0, 1] or null, got 0"),
        ({"data.first_color_jitter": 0.1}, "data.first_color_jitter must be in [0, 1], together"),
        (
            {"curriculum.stages": "[{size: 16}]", "data.first_crop_scale": "[0.5, 1]"},
            "data.first_crop_scale must be null without stages to vary, got",
        ),
        ({"data.mean": "[0.1, 0.2]"}, "data.mean must be 1 numbers"),
        ({"data.path": "null"}, "data.path must be a folder that exists, hub:NAME"),
        ({"data.path": "/no/kind"}, "data.path must exist, got '/no/kind'"),
        ({"data.path": "imagefolder:/not/there"}, "data.path must exist"),
        ({"data.split": "training"}, "data.split must be one of train, test, got 'training'"),
        ({"data.eval_split": "train"}, "data.eval_split must not be the training split"),
        ({"data.eval_split": "dev"}, "data.eval_split must be one of train, test, got 'dev'"),
        (
            {"data.image_column": "picture"},
            "data.image_column must be a column of images or arrays (image;",
        ),
        ({"model.mask_ratio": 0}, "model.mask_ratio must be in (0, 1)"),
        ({"model.mask_ratio": 1.5}, "model.mask_ratio must be in (0, 1)"),
        ({"model.mask_ratio": 0.95}, "leaves no visible patch"),
        ({"model.encoder": "resnet18"}, "model.encoder must be"),
        ({"model.encoder": "vit_relpos_small_patch16_224"}, "model.encoder must be"),
        ({"model.encoder": "vit_tinny_patch16_224"}, "nearest: vit_tiny_patch16_224"),
        ({"model.encoder_args": "{depht: 2}"}, "depht"),
        ({"model.encoder_args": "{act_layer: gelo}"}, "KeyError 'gelo'"),
        ({"model.image_size": 18}, "model.image_size must be a multiple of the patch size 4"),
        ({"model.in_chans": 0}, "model.in_chans must be above 0"),
        ({"model.in_chans": 2}, "data.mean must be 2 numbers, one per channel"),
        ({"data.bad_images": "skip"}, "data.bad_images"),
        ({"model.decoder_num_heads": 3}, "model.decoder_num_heads must divide"),
        ({"model.target": "hog9"}, "model.target"),
        ({"model.target": "hog"}, "model.hog.cell must divide the patch size 4 x 4, got 8"),
        ({"model.hog.bin": 9}, "nearest: model.hog.bins"),
        ({"model.decode_ratio": 0}, "model.decode_ratio must be in (0, 1], got 0"),
        ({"model.decoder": "none"}, "model.decoder"),
        ({"curriculum.stages": "[{size: 10}, {size: 16}]"}, "multiple of the patch size"),
        ({"curriculum.stages": "[{size: 20}, {size: 16}]"}, "at most the full size 16"),
        ({"curriculum.stages": "[{size: 8}]"}, "must have model.image_size 16"),
        ({"curriculum.stages": "[{size: 4}, {size: 16}]"}, "input size must be at least 2 patches"),
        ({"curriculum.stages": "[{size: 16, share: -1}]"}, "stage share must be positive"),
        ({"curriculum.name": "constant"}, "curriculum.stages must be empty"),
        ({"curriculum.sizes": "swin"}, "curriculum.sizes must be null unless curriculum.name is"),
        ({"curriculum.sizes": "vit"}, "curriculum.sizes"),
        (
            {"curriculum.name": "constant", "curriculum.stages": "[]", "curriculum.cost": "area"},
            "curriculum.cost must be null unless curriculum.name is 'efficienttrain_plus' or",
        ),
        (
            {
                "curriculum.name": "efficienttrain_plus",
                "curriculum.stages": "[]",
                "curriculum.sizes": "[8, 12]",
            },
            "the last of curriculum.sizes must have model.image_size 16, got 12",
        ),
        ({"run.tracker": "tensorbord"}, "run.tracker must be auto, none or an installed one"),
        ({"run.output_dir": "/dev/null"}, "run.output_dir must be a folder to write in"),
        ({"run.seed": -1}, "run.seed must be in [0, 2**32)"),
        ({"run.mixed_precision": "fp8"}, "run.mixed_precision"),
        ({"optim.epoch": 3}, "nearest: optim.epochs"),
        ({"epochs": 3}, "nearest: optim.epochs"),
        ({"optim.base_lr": "fast"}, "optim.base_lr"),
    ],
)
def test_bad_option(
    clothes: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    override: dict[str, object],
    expected: str,
) -> None:
    arguments = tiny(clothes, tmp_path / "run", **override)
    assert expected in error_of(arguments, capsys)
    assert not list(tmp_path.rglob("step_*"))


def test_unknown_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    line = error_of(["--config", "et_vit_b16"], capsys)
    assert "nearest: et_vit_b_16" in line
    assert "one of demo, " in line


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nearest: pretrain" in error_of([], capsys, "pretain")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--data.num_images=0"], "data.num_images must be above 0 or null, got 0"),
        (["--data.num_images=10"], "optim.epochs must give at least one step"),
        (["--processes=3"], "optim.batch_size must be a multiple of the 3 processes"),
        (["--price_per_hour=2"], "--price_per_hour must be together with --measure"),
        (["--measure"], "data.path must be a folder that exists, hub:NAME"),
        (["--measure", "--processes=8"], "--processes must be left out where steps are measured"),
        (["--mae_size=100"], "--mae_size must be a multiple of the patch size 16, got 100"),
        (["--model.mask_ratio=2"], "model.mask_ratio must be in (0, 1)"),
        (["--json=/no/folder/plan.json"], "--json must be a file to write to"),
        (["--json=."], "--json must be a file to write to"),
        (
            ["--optim.micro_batch_size=2", "--data.replay=[{size: 160, ratio: 4, batches: 1}]"],
            "data.replay.ratio must be a divisor of the 2 images of a micro-batch",
        ),
    ],
)
def test_bad_plan(options: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config=et_vit_b_16", "--optim.epochs=100", "--model.encoder_args={depth: 1}"]
    assert expected in error_of([*arguments, *options], capsys, "plan")


def test_recipe_with_a_misspelt_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("optim:\n  epoches: 3\n")
    line = error_of([f"--config={recipe}", "--data.path=disk:x"], capsys)
    assert "epoches" in line
    assert "nearest: optim.epochs" in line


def test_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    line = error_of(tiny(f"imagefolder:{tmp_path / 'empty'}", tmp_path / "run"), capsys)
    assert "data.path" in line


def test_data_without_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datasets.Dataset.from_dict({"number": [1, 2, 3]}).save_to_disk(str(tmp_path / "numbers"))
    arguments = tiny(f"disk:{tmp_path / 'numbers'}", tmp_path / "run", data__eval_images=1)
    line = error_of(arguments, capsys)
    assert "(there is none; all columns: number)" in line


def test_a_single_image(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.png").write_bytes(next(image_folder.rglob("*.png")).read_bytes())
    line = error_of(tiny(f"imagefolder:{tmp_path / 'one'}", tmp_path / "run"), capsys)
    assert "at least 2 images to hold one out, got 1" in line


def test_folder_in_use_and_changed_configuration(
    clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert "--resume needs a run" in error_of([*tiny(clothes, run), "--resume"], capsys)
    short = {"optim.epochs": 1, "optim.warmup_epochs": 0.5}
    assert main(["pretrain", *tiny(clothes, run, **short)]) == 0
    assert "which holds a run; add --resume" in error_of(tiny(clothes, run, **short), capsys)

    changed = tiny(clothes, run, **short, model__mask_ratio=0.5, optim__base_lr=0.1)
    line = error_of([*changed, "--resume"], capsys)
    assert "model.mask_ratio: 0.75 -> 0.5" in line
    assert "optim.base_lr: 0.01 -> 0.1" in line

    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(run / ".lock")], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        line = error_of([*tiny(clothes, run, **short), "--resume"], capsys)
        holder.kill()
    assert "in use by another run" in line


def test_damaged_checkpoint_on_resume(
    clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, short = tmp_path / "run", {"optim.epochs": 1, "optim.warmup_epochs": 0.5}
    assert main(["pretrain", *tiny(clothes, run, **short)]) == 0
    for file in run.glob("checkpoints/*/model.safetensors"):  # of one, `test_survival`
        file.write_bytes(file.read_bytes()[:200])
    line = error_of([*tiny(clothes, run, **short), "--resume"], capsys)
    assert "--resume needs a sound checkpoint" in line
    assert "step_00000005: model.safetensors is not what was written" in line
    arguments = [*tiny(clothes, run, **short), "--resume=later"]
    assert "--resume must be alone or followed by auto, got 'later'" in error_of(arguments, capsys)


def test_a_diverged_run_hands_nothing_on(
    clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["pretrain", *tiny(clothes, run, optim__base_lr=1e30)]) == 3
    assert "training has diverged" in capsys.readouterr().err
    assert not (run / "encoder").exists()


def test_resume_on_other_data_and_with_a_damaged_configuration(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    shutil.copytree(image_folder, folder)
    arguments = tiny(
        f"imagefolder:{folder}", tmp_path / "run", optim__epochs=1, optim__warmup_epochs=0
    )
    assert main(["pretrain", *arguments]) == 0
    for file in sorted(folder.rglob("*.png"))[:10]:
        file.unlink()
    line = error_of([*arguments, "--resume"], capsys)
    assert "needs the data of the run, got 63 images to train on, were 72 and 7 images to" in line
    assert main(["pretrain", *arguments, "--resume", "--data.allow_changed=true"]) == 0
    assert main(["pretrain", *arguments, "--resume"]) == 0  # the run has them now
    file = next(folder.rglob("*.png"))
    file.write_bytes(file.read_bytes() + b"more")
    line = error_of([*arguments, "--resume"], capsys)
    assert "got other names or sizes of images; --data.allow_changed true resumes" in line

    (tmp_path / "run" / "config.yaml").write_text("")
    line = error_of([*arguments, "--resume"], capsys)
    assert "config.yaml must hold the configuration of a run" in line


@pytest.mark.parametrize("of_version", ["0.2", "this"])
def test_resume_with_other_classes_or_labels(
    of_version: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    for split, number in (("train", 8), ("test", 4)):
        for label in ("cat", "dog"):
            (folder / split / label).mkdir(parents=True)
            for index in range(number):
                image = Image.new("L", (28, 28), 10 * index + 100 * (label == "dog"))
                image.save(folder / split / label / f"{index}.png")
    arguments = tiny_finetune(str(folder), tmp_path / "run", optim__epochs=2)
    assert finetune_main(arguments) == 0
    run = Run(tmp_path / "run")
    if of_version == "0.2":  # which wrote neither of these
        run.classes_file.unlink()
        config = run.read_config()
        digest = config["images"].pop("digest")
        run.write_config(config)
    assert run.read_classes() == ["cat", "dog"]
    for split in ("train", "test"):
        (folder / split / "cat").rename(folder / split / "eel")
    line = error_of([*arguments, "--resume"], capsys, "finetune")
    assert "needs the classes of the run, got them without cat and with eel; its head" in line
    for split in ("train", "test"):
        (folder / split / "eel").rename(folder / split / "cat")
    assert finetune_main([*arguments, "--resume"]) == 0
    if of_version == "0.2":
        assert run.classes_file.exists()
        assert run.read_config()["images"]["digest"] == digest
    (folder / "train" / "cat" / "0.png").rename(folder / "train" / "dog" / "9.png")
    line = error_of([*arguments, "--resume"], capsys, "finetune")
    assert "got other names or sizes of images" in line


@pytest.mark.parametrize("split", ["train", "test"])
def test_resume_with_other_labels_of_the_same_images(
    split: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, labels = tmp_path / "images", ["cat", "dog"] * 4
    for name in ("train", "test"):
        (folder / name).mkdir(parents=True)
        for index in range(8):
            Image.new("L", (28, 28), 30 * index).save(folder / name / f"{index}.png")
        write_labels(folder / name, labels)
    arguments = tiny_finetune(str(folder), tmp_path / "run", optim__epochs=2)
    assert finetune_main(arguments) == 0
    write_labels(folder / split, labels[::-1])
    line = error_of([*arguments, "--resume"], capsys, "finetune")
    purpose = "train on" if split == "train" else "evaluate on"
    assert f"got other labels of the images to {purpose}; --data.allow_changed true" in line
    assert "names" not in line
    run = Run(tmp_path / "run")
    config = run.read_config()
    assert config["images"].pop("eval_labels")  # which earlier versions did not write
    run.write_config(config)
    write_labels(folder / split, labels)
    assert finetune_main([*arguments, "--resume"]) == 0
    assert run.read_config()["images"]["eval_labels"]


def write_labels(folder: Path, labels: list[str]) -> None:
    rows = [f"{index}.png,{label}\n" for index, label in enumerate(labels)]
    (folder / "metadata.csv").write_text("".join(["file_name,label\n", *rows]))


def test_stale_checkpoints_are_no_new_folder(
    clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run" / "checkpoints" / "step_00000800").mkdir(parents=True)
    assert "which holds a run" in error_of(tiny(clothes, tmp_path / "run"), capsys)


def test_no_readable_image_at_all(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = damaged_folder(image_folder, tmp_path / "damaged", 80)
    arguments = tiny(f"imagefolder:{folder}", tmp_path / "run", data__num_workers=1)
    assert "got none readable" in error_of(arguments, capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_bad_folder_in_two_processes(clothes: str, tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    result = launch_two(["mae_et", "pretrain", *tiny(clothes, tmp_path / "run")])
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "which holds a run" in lines[0]
    assert "Connection" not in result.stderr


@pytest.mark.slow
def test_images_that_the_second_process_lacks(tmp_path: Path) -> None:
    path = "python:tests.support.own_images:images_of_the_first_machine"
    result = launch_two(["mae_et", "pretrain", *tiny(path, tmp_path / "run")])
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "no such disk" in lines[0]
    assert "Connection" not in result.stderr


class _Code:
    """A pickle that would make a file if it were executed."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def test_bad_checkpoint_for_fine_tuning(
    clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(checkpoint: Path) -> str:
        arguments = tiny_finetune(clothes, tmp_path / "run", checkpoint=checkpoint)
        return error_of(arguments, capsys, "finetune")

    assert "checkpoint must exist" in error(tmp_path / "missing.pth")

    truncated = tmp_path / "truncated.pth"
    torch.save({"model": {"pos_embed": torch.zeros(1, 17, 16)}}, truncated)
    truncated.write_bytes(truncated.read_bytes()[:400])
    assert "truncated.pth" in error(truncated)

    other = tmp_path / "other.pth"
    torch.save({"model": {"pos_embed": torch.zeros(1, 17, 24)}}, other)
    assert "is of another architecture" in error(other)

    harmful = tmp_path / "harmful.pth"
    torch.save({"model": _Code(tmp_path / "executed")}, harmful)
    assert "was not executed" in error(harmful)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ({"checkpoint": "null"}, "--checkpoint must be given"),
        ({"data.eval_split": "train"}, "data.eval_split must not be the training split"),
        (
            {"model.in_chans": 4, "data.mean": "[0,0,0,0]", "data.std": "[1,1,1,1]"},
            "augment.randaug",
        ),
        ({"data.label_column": "kind"}, "data.label_column must be one of label, got 'kind'"),
        ({"data.label_column": "image"}, "data.label_column must hold class labels"),
        ({"data.labels_per_class": 9}, "data.labels_per_class must be at most 8"),
        ({"data.labels_per_class": 0}, "data.labels_per_class must be above 0 or null"),
        ({"data.label_fraction": 0.01}, "must leave a label for each of the 10 classes"),
        ({"data.label_fraction": 2}, "data.label_fraction must be in (0, 1]"),
        ({"optim.layer_decay": 0}, "optim.layer_decay must be in (0, 1]"),
        ({"optim.micro_batch_size": 1}, "must allow chunks of a multiple of 2 images"),
        ({"model.drop_path": 1}, "model.drop_path must be in [0, 1)"),
        ({"augment.erase": 2}, "augment.erase must be in [0, 1]"),
        ({"augment.randaug": "strong"}, "augment.randaug"),
        ({"mode": "linear"}, "--checkpoint must be an encoder for --mode linear"),
        ({"mode": "nearest"}, "mode"),
        ({"optim.ema_decay": 1}, "optim.ema_decay must be in (0, 1) or null"),
        ({"optim.class_weights": "[1, 2]"}, "optim.class_weights must be 10 numbers"),
        ({"optim.class_weights": "[1, -2]"}, "optim.class_weights must be balanced, null or"),
        ({"run.patience": 0}, "run.patience must be above 0 or null"),
        ({"probe.k": 0}, "probe.k must be above 0"),
        ({"probe.linear_rates": "[]"}, "probe.linear_rates must be numbers above 0"),
        (
            {"probe.linear_epochs": 5},
            "probe.linear_warmup_epochs must be in [0, probe.linear_epochs = 5)",
        ),
        (
            {"curriculum.name": "stages", "curriculum.stages": "[{size: 10}, {size: 16}]"},
            "input size must be a multiple of the patch size 4",
        ),
        (
            {"curriculum.name": "efficienttrain", "curriculum.magnitudes": "[1, 2]"},
            "curriculum.magnitudes must be 5 numbers, one per stage",
        ),
        (
            {"curriculum.magnitudes": "[5]", "augment.randaug": "original"},
            "augment.randaug must be a policy with a magnitude (rand-m9-…)",
        ),
        ({"model.encoder": "resnet19"}, "nearest: resnet"),
        ({"augment.randaug": "rand-mX"}, "augment.randaug must be a policy of timm"),
        ({"data.labels_per_class": 2, "data.label_seed": -1}, "data.label_seed must be at least 0"),
        ({"run.output_dir": ""}, "run.output_dir must be a folder, got ''"),
        ({"model.encoder": "no_such:model"}, "can't import module 'no_such'"),
    ],
)
def test_bad_option_of_fine_tuning(
    clothes: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    override: dict[str, object],
    expected: str,
) -> None:
    arguments = tiny_finetune(clothes, tmp_path / "run", **override)
    assert expected in error_of(arguments, capsys, "finetune")


@pytest.mark.parametrize(
    "flag",
    ["--checkpoint=/not/there", "--num_image=3", "--checkpoint", "--out=/tmp", "--out=x.nope"],
)
def test_bad_option_of_reconstruct(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    error_of([flag], capsys, "reconstruct")


def test_a_picture_that_has_no_place(capsys: pytest.CaptureFixture[str]) -> None:
    line = error_of(["--checkpoint=run", "--out=/dev/null/x.png"], capsys, "reconstruct")
    assert "--out must be a file with one of .png" in line


def test_a_bad_option_of_plan_is_found_before_steps_are_measured(
    clothes: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mae_et.planning.plan.measure_steps", lambda *_: pytest.fail("measured"))
    arguments = [*tiny(clothes, "unused"), "--measure", "--mae_size=7"]
    assert "--mae_size must be a multiple of the patch" in error_of(arguments, capsys, "plan")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"eval.knn_every": 0}, "eval.knn_every must be above 0 or null"),
        ({"eval.images": 0}, "eval.images must be above 0"),
        ({"eval.knn_every": 5, "eval.label_column": "kind"}, "eval.label_column must be one of"),
        ({"eval.knn_every": 5, "eval.path": "disk:/not/there"}, "eval.path must exist"),
        (
            {"eval.knn_every": 5, "eval.images": 3},
            "eval.images 3 must have images of every class, got none of",
        ),
        (
            {"probe.linear_epochs": 5},
            "probe.linear_warmup_epochs must be in [0, probe",
        ),
    ],
)
def test_bad_probe_of_a_run(
    clothes: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: dict[str, object],
    expected: str,
) -> None:
    assert expected in error_of(tiny(clothes, tmp_path / "run", **arguments), capsys)


def test_sweep_without_numbers(
    clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = tiny_finetune(clothes, tmp_path / "run")
    line = error_of([*arguments, "--sweep.layer_decay=high,low"], capsys, "finetune")
    assert "--sweep.layer_decay must be numbers with commas, got 'high,low'" in line
    line = error_of([*arguments, "--sweep.layer_decay=0.5,2"], capsys, "finetune")
    assert "optim.layer_decay must be in (0, 1], got 2" in line
    line = error_of([*arguments, "--sweep.layer_decay=0.5,0.50"], capsys, "finetune")
    assert "--sweep.layer_decay must be distinct numbers" in line
    assert not (tmp_path / "run").exists()
    (tmp_path / "run" / "layer_decay_0.5").mkdir(parents=True)
    line = error_of([*arguments, "--sweep.layer_decay=0.4,0.5"], capsys, "finetune")
    assert "run.output_dir must be new (or --resume)" in line
    assert not (tmp_path / "run" / "layer_decay_0.4").exists()


def test_constructors_that_raise_what_they_like(
    clothes: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "raising_at_import.py").write_text("raise RuntimeError('not today')")
    (tmp_path / "raising.py").write_text("def model(num_classes): open('/not/there')")
    monkeypatch.syspath_prepend(tmp_path)
    for name, expected in (
        ("raising_at_import:model", "can't import module 'raising_at_import': not today"),
        ("raising:model", "No such file or directory"),
    ):
        arguments = tiny_finetune(clothes, tmp_path / "run", model__encoder=name)
        arguments += ["--model.encoder_args={}", "--model.patch_size=null"]
        assert expected in error_of(arguments, capsys, "finetune")


def test_a_checkpoint_of_other_numbers(
    clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    short: dict[str, object] = {"optim.epochs": 1, "optim.warmup_epochs": 0}
    assert finetune_main(tiny_finetune(clothes, run, **short)) == 0
    weights = load_file(run / "best" / "model.safetensors")
    weights["cls_token"][0, 0, 0] = float("nan")
    save_file(weights, run / "best" / "model.safetensors")
    arguments = tiny_finetune(clothes, tmp_path / "again", checkpoint=run)
    assert "must hold finite numbers, got others in cls_token" in error_of(
        arguments, capsys, "finetune"
    )


def test_a_runs_own_configuration_is_a_recipe(clothes: str, tmp_path: Path) -> None:
    short: dict[str, object] = {"optim.epochs": 1, "optim.warmup_epochs": 0}
    assert finetune_main(tiny_finetune(clothes, tmp_path / "run", **short)) == 0
    config = f"--config={tmp_path / 'run' / 'config.yaml'}"
    assert finetune_main([config, f"--run.output_dir={tmp_path / 'again'}"]) == 0
    first, second = (
        load_file(tmp_path / name / "last" / "model.safetensors") for name in ("run", "again")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_printed_configuration_is_a_recipe_of_every_command(
    clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = tiny(clothes, tmp_path / "run", optim__epochs=7)
    with pytest.raises(SystemExit):
        main(["pretrain", *arguments, "--resume", "--print_config"])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(capsys.readouterr().out)
    assert main(["plan", f"--config={recipe}", "--json=-"]) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 7


def test_a_reader_that_wants_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # else print itself finds out
    command = [sys.executable, "-m", "mae_et", "recipes"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_no_readable_image_to_evaluate_on(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(image_folder, tmp_path / "data" / "train")
    damaged_folder(image_folder, tmp_path / "data" / "test", 80)
    path = f"imagefolder:{tmp_path / 'data'}"
    line = error_of(tiny_finetune(path, tmp_path / "run"), capsys, "finetune")
    assert "got none readable" in line
    assert not (tmp_path / "run").exists()


def test_a_run_among_its_data(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "test"):
        shutil.copytree(image_folder, tmp_path / split)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    folder, message = str(tmp_path), "run.output_dir must not be the folder of the data, got "
    assert message in error_of(tiny(folder, tmp_path), capsys)
    assert message in error_of(tiny_finetune(folder, tmp_path), capsys, "finetune")
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_bad_prediction(
    clothes: str, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    short = {"optim.epochs": 1, "optim.warmup_epochs": 0}
    assert finetune_main(tiny_finetune(clothes, run, **short)) == 0

    def error(**changes: object) -> str:
        options = {"checkpoint": run, "data": image_folder, "out": tmp_path / "p.csv", **changes}
        arguments = [f"--{name}={value}" for name, value in options.items()]
        return error_of(["predict", *arguments], capsys, "finetune")

    assert "--checkpoint must be a fine-tuning run or a classifier" in error(checkpoint=tmp_path)
    assert "--data must exist, got" in error(data=tmp_path / "missing")
    all_bad = damaged_folder(image_folder, tmp_path / "all_bad", 80)
    assert "--data must be images; none of 80 is readable" in error(data=all_bad)
    assert "--split must be one of train" in error(split="test")
    photo, metadata = tmp_path / "photo.png", tmp_path / "metadata.csv"
    photo.write_bytes(b"a photo")
    metadata.write_text("file_name,label\nphoto.png,cat\n")
    for out in (tmp_path, photo, tmp_path / "p.parquet"):
        assert "--out must be a file with the ending .csv" in error(out=out)
    assert "--out must be a new file, or one of predictions" in error(out=metadata)
    assert photo.read_bytes() == b"a photo"
    assert metadata.read_text().startswith("file_name")
    assert "--out must be a file to write" in error(out=photo / "p.csv")
    assert "--batch_size must be above 0, got 0" in error(batch_size=0)
    assert "--encoder must be left out for" in error(encoder="tests.support.own_model:windowed")
    config_file = run / "best" / "config.json"
    config = config_file.read_text()
    for old, new, expected in (
        ('"num_classes": 10', '"num_classes": 9', "10 names for 9 classes"),
        (
            '"input_size": [',
            '"input_size": [7, ',
            "too many values to unpack",
        ),
        ('"label_names"', '"names"', "an encoder has to be fine-tuned first"),
        ('"pretrained_cfg"', '"cfg"', "KeyError: 'pretrained_cfg'"),
    ):
        config_file.write_text(config.replace(old, new))
        assert expected in error()
    config_file.write_text(config)
    (run / "best" / "model.safetensors").write_bytes(b"nothing")
    assert "can't be opened" in error()


def labelled(tmp_path: Path, clothes: str, names: list[str], labels: list[int]) -> str:
    """A data set on disk with these class names and labels."""
    rows = datasets.load_dataset("parquet", data_dir=clothes.partition(":")[2], split="test")
    rows = rows.select(range(len(labels))).remove_columns("label")
    rows = rows.add_column("label", labels)
    if names:
        features = rows.features.copy()
        features["label"] = datasets.ClassLabel(names=names)
        rows = rows.cast(features)
    splits = datasets.DatasetDict({"train": rows, "test": rows})
    splits.save_to_disk(str(tmp_path / "labelled"))
    return f"disk:{tmp_path / 'labelled'}"


@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        (
            ["hat", "shoe", "sock"],
            [0, 0, 1, 1],
            "images of every class, got none of 'sock' in train",
        ),
        ([], [0, 0, 3, 3], "images of every class, got none of '1', '2' in train"),
        (["hat"], [0, 0, 0], "must have at least 2 classes, got 1"),
        ([], [0, -3, 1], "must hold integers from 0, got -3"),
        ([], [0, 10**6], "must hold integers below 100000"),
    ],
)
def test_bad_labels(
    clothes: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    names: list[str],
    labels: list[int],
    expected: str,
) -> None:
    path = labelled(tmp_path, clothes, names, labels)
    assert expected in error_of(tiny_finetune(path, tmp_path / "run"), capsys, "finetune")


def test_a_classifier_of_other_classes_gets_a_new_head(
    clothes: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short: dict[str, object] = {"optim.epochs": 1, "optim.warmup_epochs": 0}
    assert finetune_main(tiny_finetune(clothes, tmp_path / "first", **short)) == 0
    path = labelled(tmp_path, clothes, ["hat", "shoe"], [0, 0, 1, 1] * 4)
    again = tiny_finetune(path, tmp_path / "again", **short, checkpoint=tmp_path / "first")
    assert finetune_main(again) == 0
    assert "head has other classes; a new one takes its place" in caplog.text
    caplog.clear()
    same = tiny_finetune(clothes, tmp_path / "same", **short, checkpoint=tmp_path / "first")
    assert finetune_main(same) == 0
    assert "head" not in caplog.text
