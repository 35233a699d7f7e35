"""Whole runs: what they write, that they resume exactly, and that processes do not matter."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator
from torch import Tensor

from mae_et import load_mae_checkpoint
from mae_et.__main__ import main
from mae_et.pretraining import Pretrainer
from mae_et.runs import Run
from tests.support.arguments import tiny
from tests.support.compare import assert_same_weights, weights
from tests.support.launch import launch_two, run_one, run_two


def test_run_writes_what_it_promises(finished: Path) -> None:
    lines = Run(finished).read_metrics()
    training = [line for line in lines if "loss" in line]
    assert [line["step"] for line in training] == list(range(1, 21))
    assert [line["size"] for line in training] == [8] * 10 + [12] * 5 + [16] * 5
    assert all(line["images"] == 16 and line["skipped_steps"] == 0 for line in training)
    assert [line["step"] for line in lines if "eval_loss" in line] == [10, 20]
    assert training[-1]["epoch"] == pytest.approx(4.0)
    assert (finished / "config.yaml").exists()
    kept = sorted(folder.name for folder in (finished / "checkpoints").iterdir())
    assert kept == ["step_00000018", "step_00000020"]


def test_loss_falls(clothes: str, tmp_path: Path) -> None:
    arguments = tiny(clothes, tmp_path / "run", optim__epochs=40, run__log_every=20)
    assert main(["pretrain", *arguments]) == 0
    losses = [
        line["eval_loss"] for line in Run(tmp_path / "run").read_metrics() if "eval_loss" in line
    ]
    assert losses[-1] < losses[0] - 0.1


def test_encoder_opens_in_plain_timm(finished: Path) -> None:
    encoder = timm.create_model(f"local-dir:{finished / 'encoder'}", pretrained=True).eval()
    model = load_mae_checkpoint(finished).eval()
    images = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(
        encoder.forward_features(images), model.encoder.forward_features(images)
    )


def test_tracker_is_written(clothes: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = tiny(clothes, run, run__tracker="tensorboard", optim__epochs=2)
    assert main(["pretrain", *arguments]) == 0
    assert list(run.rglob("events.out.tfevents*"))


@pytest.mark.slow
def test_tensorboard_shows_each_step_of_a_resumed_run_once(clothes: str, tmp_path: Path) -> None:
    """The killed run had logged steps after its last checkpoint, which the resumed one repeats."""
    run = tmp_path / "run"
    arguments = tiny(clothes, run, run__tracker="tensorboard")
    result = run_one(["tests.support.killed_run", "step:8", *arguments])
    assert result.returncode == -signal.SIGKILL, result.stderr
    logged = [line["step"] for line in Run(run).read_metrics() if "loss" in line]
    assert logged == list(range(1, 9))
    # In a process of its own, as files of events are in the order of seconds.
    result = run_one(["mae_et", "pretrain", *arguments, "--resume"])
    assert result.returncode == 0, result.stderr
    events = event_accumulator.EventAccumulator(str(run / "mae-et"), {"scalars": 0}).Reload()
    for name in ("loss", "lr", "images_per_s"):
        assert [event.step for event in events.Scalars(name)] == list(range(1, 21))
    losses = [line["loss"] for line in Run(run).read_metrics() if "loss" in line]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(losses)


@pytest.mark.slow
def test_killed_and_resumed_run_equals_the_uninterrupted_one(
    clothes: str, finished: Path, tmp_path: Path
) -> None:
    """SIGKILL before the first checkpoint, mid-epoch, in a stage change, in a save, at the end."""
    run = tmp_path / "run"
    arguments = tiny(clothes, run)
    for point in ("step:2", "step:8", "size:12", "save:15", "save:20"):
        result = run_one(["tests.support.killed_run", point, *arguments])
        assert result.returncode == -signal.SIGKILL, result.stderr
        arguments = [*tiny(clothes, run), "--resume"]
    assert main(["pretrain", *arguments]) == 0
    assert_same_weights(run, finished)
    assert not list((run / "checkpoints").glob("*.tmp"))
    assert [line["loss"] for line in Run(run).read_metrics() if "loss" in line] == [
        line["loss"] for line in Run(finished).read_metrics() if "loss" in line
    ]


def test_resume_of_a_finished_run_changes_nothing(
    clothes: str, tmp_path: Path, finished: Path
) -> None:
    run = tmp_path / "run"
    assert main(["pretrain", *tiny(clothes, run)]) == 0
    assert main(["pretrain", *tiny(clothes, run), "--resume"]) == 0
    assert_same_weights(run, finished)


def test_resume_of_a_run_of_an_earlier_version(
    clothes: str, tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It did not know some fields, and trained as their defaults do now."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["model"]["decode_ratio"], config["model"]["hog"], config["probe"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["pretrain", *tiny(clothes, run, model__decode_ratio=0.5), "--resume"]) == 2
    assert "changed: model.decode_ratio: 1.0 -> 0.5" in capsys.readouterr().err
    assert main(["pretrain", *tiny(clothes, run), "--resume"]) == 0
    assert_same_weights(run, finished)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_two_processes_train_as_one(
    clothes: str, finished: Path, tmp_path: Path, workers: int
) -> None:
    run = tmp_path / "run"
    arguments = tiny(clothes, run, data__num_workers=workers)
    start = run_two if workers else launch_two
    result = start(["mae_et", "pretrain", *arguments])
    assert result.returncode == 0, result.stderr
    ours, theirs = ([m for m in Run(r).read_metrics() if "loss" in m] for r in (run, finished))
    assert len(ours) == 20
    assert {line["processes"] for line in ours} == {2}
    for one, two in zip(ours, theirs, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], abs=1e-5)
        assert one["grad_norm"] == pytest.approx(two["grad_norm"], rel=1e-3)


def poison(monkeypatch: pytest.MonkeyPatch, steps: range) -> None:
    """Make the images of some steps not finite."""
    train_step, crop = Pretrainer.train_step, Pretrainer.crop
    current = -1

    def noted_step(self: Pretrainer, step: int, *arguments: Any) -> Any:
        nonlocal current
        current = step
        return train_step(self, step, *arguments)

    def poisoned_crop(self: Pretrainer, images: Tensor, size: Any) -> Tensor:
        return crop(self, images, size) * (float("nan") if current in steps else 1)

    monkeypatch.setattr(Pretrainer, "train_step", noted_step)
    monkeypatch.setattr(Pretrainer, "crop", poisoned_crop)


def test_a_step_that_is_not_finite_is_skipped_and_counted(
    clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, range(4, 6))
    run = tmp_path / "run"
    assert main(["pretrain", *tiny(clothes, run, run__eval_every="null")]) == 0
    skipped = [line["skipped_steps"] for line in Run(run).read_metrics() if "loss" in line]
    assert skipped == [0] * 4 + [1] + [2] * 15
    assert all(value.isfinite().all() for value in weights(run).values())


def test_many_steps_that_are_not_finite_stop_the_run(
    clothes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    poison(monkeypatch, range(4, 20))
    assert main(["pretrain", *tiny(clothes, tmp_path / "run", optim__max_skipped_steps=5)]) == 3
    assert "5 steps in a row" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["bf16"])
def test_mixed_precision_stays_close(
    clothes: str, finished: Path, tmp_path: Path, precision: str
) -> None:
    run = tmp_path / "run"
    assert main(["pretrain", *tiny(clothes, run, run__mixed_precision=precision)]) == 0
    ours, theirs = (
        [m["loss"] for m in Run(r).read_metrics() if "loss" in m] for r in (run, finished)
    )
    assert ours == pytest.approx(theirs, rel=0.05)


def test_runs_of_one_process_choose_their_precision(clothes: str, tmp_path: Path) -> None:
    """As in a notebook or a sweep; accelerate keeps the first one's for the process."""
    short = {"optim__epochs": 1, "optim__warmup_epochs": 0}
    for precision in ("bf16", "no"):
        run = tmp_path / precision
        arguments = tiny(clothes, run, run__mixed_precision=precision, **short)
        assert main(["pretrain", *arguments]) == 0
        assert Run(run).read_config()["run"]["mixed_precision"] == precision


def test_learned_positions_train(clothes: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["pretrain", *tiny(clothes, run, model__positions="learned")]) == 0
    start = load_mae_checkpoint(run)
    start._init_weights()
    assert not torch.equal(weights(run)["encoder.pos_embed"], start.encoder.pos_embed)


def test_a_run_that_ends_as_strong_as_it_began_is_the_plain_one(
    clothes: str, finished: Path, tmp_path: Path
) -> None:
    same = tiny(clothes, tmp_path / "same", data__first_crop_scale="[0.2, 1.0]")
    weak = tiny(
        clothes, tmp_path / "weak", data__first_crop_scale="[0.9, 1.0]", data__color_jitter=0.4
    )
    assert main(["pretrain", *same]) == 0
    assert main(["pretrain", *weak]) == 0
    assert_same_weights(finished, tmp_path / "same")
    assert any(
        not torch.equal(value, weights(finished)[name])
        for name, value in weights(tmp_path / "weak").items()
    )


OPTIONS = {
    "model__target": "hog",
    "model__hog__cell": 2,
    "model__decoder": "cross",
    "model__decode_ratio": 0.5,
}


def test_run_with_all_of_it(clothes: str, tmp_path: Path) -> None:
    """Through three sizes, continued in the middle, drawn, and its encoder kept."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(["pretrain", *tiny(clothes, whole, **OPTIONS)]) == 0
    shutil.copytree(whole, parts)
    shutil.rmtree(max(parts.glob("checkpoints/step_*")))  # the last two are kept
    assert main(["pretrain", *tiny(clothes, parts, **OPTIONS), "--resume"]) == 0
    assert_same_weights(whole, parts)

    model = load_mae_checkpoint(whole)
    assert model.decoder_pred.out_features == 2 * 2 * 9
    picture = tmp_path / "out.png"
    assert main(["reconstruct", f"--checkpoint={whole}", f"--out={picture}", "--num_images=2"]) == 0
    assert len(np.unique(np.asarray(Image.open(picture).convert("L")))) > 100
