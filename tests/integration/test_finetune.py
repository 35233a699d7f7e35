"""Fine-tuning runs: the hand-off, exact resume, and counting over processes."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

from finetune.__main__ import main
from mae_et import export_encoder
from mae_et.runs import Run
from mae_et.training.optim import step_if_finite
from tests.support.arguments import tiny_finetune
from tests.support.launch import run_two
from tests.support.models import BuildMAE

TINY = {"embed_dim": 16, "depth": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def encoder(tiny_mae: BuildMAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained encoder, as far as fine-tuning can tell."""
    folder = tmp_path_factory.mktemp("encoder") / "encoder"
    export_encoder(tiny_mae(encoder_args=TINY, in_chans=1), folder)
    return folder


def test_workers_do_not_change_the_training(clothes: str, tmp_path: Path) -> None:
    for workers in (0, 2):
        arguments = tiny_finetune(
            clothes, tmp_path / str(workers), data__num_workers=workers, model__drop_path=0.5
        )
        assert main(arguments) == 0
    first, second = (
        load_file(tmp_path / name / "last" / "model.safetensors") for name in ("0", "2")
    )
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_run_writes_a_classifier_for_plain_timm(
    encoder: Path, clothes: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments = tiny_finetune(
        clothes,
        run,
        checkpoint=encoder,
        model__encoder_args=json.dumps(TINY),
        augment__randaug="rand-m9-mstd0.5-inc1",
        data__labels_per_class=4,
    )
    assert main(arguments) == 0
    evaluations = [line for line in Run(run).read_metrics() if "top1" in line]
    assert [line["step"] for line in evaluations] == [3, 5]  # 40 images: epochs of 2.5 steps
    assert all(0 <= line["top1"] <= line["top5"] <= 1 for line in evaluations)
    for name in ("best", "last"):
        classifier = timm.create_model(f"local-dir:{run / name}", pretrained=True)
        assert classifier(torch.randn(1, 1, 16, 16)).shape == (1, 10)
        config = json.loads((run / name / "config.json").read_text())
        assert config["label_names"][9] == "Ankle boot"
    assert config["metrics"]["top1"] == evaluations[-1]["top1"]


def test_layer_decay_and_schedule_reach_the_optimizer(
    clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[float, float]] = []

    def noted(accelerator: Any, model: Any, optimizer: Any, clip: Any) -> object:
        seen.append({g["lr_scale"]: g["lr"] for g in optimizer.param_groups})
        return step_if_finite(accelerator, model, optimizer, clip)

    monkeypatch.setattr("mae_et.training.trainer.step_if_finite", noted)
    arguments = tiny_finetune(
        clothes, tmp_path / "run", optim__layer_decay=0.5, optim__base_lr=0.16, optim__min_lr=0
    )
    assert main(arguments) == 0
    assert sorted(seen[0]) == [0.25, 0.5, 1.0]  # stem, the one block, norm and head
    peak = 0.16 * 16 / 256
    for index, rates in enumerate(seen):
        progress = index / 10
        lr = (
            peak * progress / 0.5
            if progress < 0.5
            else peak * 0.5 * (1 + math.cos(math.pi * (progress - 0.5) / 0.5))
        )
        for scale, rate in rates.items():
            assert rate == pytest.approx(lr * scale)


def test_resumed_run_equals_the_uninterrupted_one(
    encoder: Path,
    clothes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also if the encoder that it began with is no longer there."""
    from finetune.finetuner import Finetuner

    def arguments(name: str) -> list[str]:
        return tiny_finetune(
            clothes,
            tmp_path / name,
            augment__randaug="rand-m5-mstd0.5-inc1",
            checkpoint=start,
            model__encoder_args=TINY,
        )

    start = tmp_path / "encoder"
    shutil.copytree(encoder, start)
    assert main(arguments("whole")) == 0

    class Interrupted(Exception):  # noqa: N818
        pass

    train_step = Finetuner.train_step

    def interrupted(self: Finetuner, step: int, *rest: object) -> object:
        if step == 8:
            raise Interrupted
        return train_step(self, step, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Finetuner, "train_step", interrupted)
        assert main(arguments("broken")) == 1
    assert "Interrupted" in capsys.readouterr().err
    shutil.rmtree(start)
    assert main([*arguments("broken"), "--resume"]) == 0
    whole, broken = (
        load_file(tmp_path / n / "last" / "model.safetensors") for n in ("whole", "broken")
    )
    for name in whole:
        assert torch.equal(whole[name], broken[name]), name


@pytest.mark.slow
def test_two_processes_count_every_image_once(clothes: str, tmp_path: Path) -> None:
    """30 test images in batches of 8 over 2 processes; no augmentation that depends on the rank."""
    plain = {
        "augment.mixup": 0,
        "augment.cutmix": 0,
        "model.drop_path": 0,
        "augment.erase": 0,
        "optim.epochs": 1,
        "optim.warmup_epochs": 0.5,
    }
    assert main(tiny_finetune(clothes, tmp_path / "one", **plain)) == 0
    result = run_two(["finetune", *tiny_finetune(clothes, tmp_path / "two", **plain)])
    assert result.returncode == 0, result.stderr
    assert Run(tmp_path / "two").read_metrics()[0]["processes"] == 2
    one, two = (Run(tmp_path / name).read_metrics()[-1] for name in ("one", "two"))
    assert one["top1"] == two["top1"]
    assert one["top5"] == two["top5"]
    assert one["eval_loss"] == pytest.approx(two["eval_loss"], abs=1e-4)


@pytest.mark.slow
def test_two_processes_sweep_a_network_with_batch_norm(clothes: str, tmp_path: Path) -> None:
    """One launch runs several trainings; batch-norm statistics are shared, so all score alike."""
    options: dict[str, object] = {
        "model.encoder": "resnet10t",
        "model.encoder_args": "{channels: [8, 8, 16, 16]}",
        "model.patch_size": "null",
        "model.image_size": 32,
        "model.drop_path": 0,
        "curriculum.name": "efficienttrain",
        "optim.ema_decay": 0.9,
        "run.patience": 5,
    }
    arguments = [*tiny_finetune(clothes, tmp_path / "two", **options), "--sweep.layer_decay=0.5,1"]
    result = run_two(["finetune", *arguments])
    assert result.returncode == 0, result.stderr
    for decay in ("0.5", "1"):
        run = tmp_path / "two" / f"layer_decay_{decay}"
        lines = Run(run).read_metrics()
        assert lines[0]["processes"] == 2
        report = json.loads((run / "report.json").read_text())
        assert report["images"] == 30
        best = max(line["top1"] for line in lines if "top1" in line)
        assert report["top1"] == pytest.approx(best)  # of both processes, by rank 0's weights
