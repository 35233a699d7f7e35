"""Options of a fine-tuning run: averages, class weights, stages, early end, report, sweep."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from finetune.__main__ import main
from finetune.finetuner import Finetuner
from mae_et.__main__ import main as mae_et_main
from mae_et.runs import Run
from tests.support.arguments import tiny_finetune
from tests.support.images import damaged_folder


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(run / name / "model.safetensors")


def test_average_of_the_weights(
    clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The average of timm with its warm-up, of the weights after each step."""
    seen: list[dict[str, torch.Tensor]] = []
    train_step = Finetuner.train_step

    def noted(self: Finetuner, *arguments: Any) -> Any:
        result = train_step(self, *arguments)
        seen.append({k: v.clone() for k, v in self.unwrapped.model.state_dict().items()})
        return result

    monkeypatch.setattr(Finetuner, "train_step", noted)
    assert main(tiny_finetune(clothes, tmp_path / "run", optim__ema_decay=0.7)) == 0
    average = seen[0]
    for step, values in enumerate(seen[1:], start=1):
        decay = min(1 - (1 + step) ** (-2 / 3), 0.7)
        average = {k: decay * average[k] + (1 - decay) * values[k] for k in values}
    for name, value in weights(tmp_path / "run").items():
        torch.testing.assert_close(value, average[name], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(weights(tmp_path / "run")["head.weight"], seen[-1]["head.weight"])


class Interrupted(Exception):  # noqa: N818
    pass


BACKBONES: dict[str, dict[str, object]] = {
    "vit_tiny_patch16_224": {"optim.optimizer": "lamb", "optim.clip_grad": 1},
    "cswin_tiny_224": {
        "model.encoder_args": "{embed_dim: 8, depths: [1, 1], num_heads: [2, 2], "
        "stripe_widths: [2]}",
        "model.patch_size": "null",
    },
    "pvt_v1_tiny": {
        "model.encoder_args": "{embed_dims: [8, 16], depths: [1, 1], num_heads: [1, 2], "
        "mlp_ratios: [2, 2], sr_ratios: [2, 1]}",
        "model.patch_size": 2,
    },
}
"""Encoder -> options that make it small; the first one's are those of every tiny run."""


@pytest.mark.parametrize("encoder", BACKBONES)
def test_resumed_run_with_average_and_curriculum_equals_the_uninterrupted_one(
    encoder: str,
    clothes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options: dict[str, object] = {
        "model.encoder": encoder,
        **BACKBONES[encoder],
        "optim.ema_decay": 0.9,
        "curriculum.name": "stages",
        "curriculum.stages": "[{size: 8}, {size: 12}, {size: 16}]",
        "curriculum.magnitudes": "[1, 5, 9]",
    }
    assert main(tiny_finetune(clothes, tmp_path / "whole", **options)) == 0
    train_step = Finetuner.train_step

    def interrupted(self: Finetuner, step: int, *rest: Any) -> Any:
        if step == 8:
            raise Interrupted
        return train_step(self, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Finetuner, "train_step", interrupted)
        assert main(tiny_finetune(clothes, tmp_path / "broken", **options)) == 1
    assert "Interrupted" in capsys.readouterr().err
    assert main([*tiny_finetune(clothes, tmp_path / "broken", **options), "--resume"]) == 0
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    for name in whole:
        assert torch.equal(whole[name], broken[name]), name


def test_early_large_batch(clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images of an ordinary run in the same order, and a run that is resumed inside of it."""
    labels: dict[int, list[int]] = {}
    train_step, loss = Finetuner.train_step, Finetuner.loss

    def stepped(self: Finetuner, step: int, *rest: Any) -> Any:
        if step == 2 and not self.config.optim.ema_decay and interrupting:
            raise Interrupted
        labels[step] = []
        return train_step(self, step, *rest)

    def noted(self: Finetuner, images: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
        labels[max(labels)] += of.tolist()
        return loss(self, images, of)

    monkeypatch.setattr(Finetuner, "train_step", stepped)
    monkeypatch.setattr(Finetuner, "loss", noted)
    options = {
        "curriculum.name": "stages",
        "curriculum.stages": "[{size: 8}, {size: 16}]",
        "run.checkpoint_every": 1,
    }
    interrupting = False
    assert main(tiny_finetune(clothes, tmp_path / "plain", **options)) == 0
    seen = [label for step in sorted(labels) for label in labels[step]]
    assert [len(labels[step]) for step in sorted(labels)] == [16] * 10
    labels.clear()
    options["optim.early_batch"] = "[{size: 8, times: 2}]"
    assert main(tiny_finetune(clothes, tmp_path / "whole", **options)) == 0
    assert [len(labels[step]) for step in sorted(labels)] == [32] * 2 + [16] * 6
    assert [label for step in sorted(labels) for label in labels[step]] == seen

    lines = [line for line in Run(tmp_path / "whole").read_metrics() if "loss" in line]
    assert [line["images"] for line in lines] == [32, 32] + [16] * 6
    assert [line["epoch"] for line in lines] == pytest.approx(
        [32 * n / 80 for n in (1, 2)] + [(64 + 16 * n) / 80 for n in range(1, 7)]
    )
    plain = [line["lr"] for line in Run(tmp_path / "plain").read_metrics() if "loss" in line]
    assert lines[1]["lr"] == pytest.approx(2**0.5 * plain[2])
    assert [line["lr"] for line in lines[3:]] == pytest.approx(plain[5:])

    interrupting = True
    arguments = tiny_finetune(clothes, tmp_path / "broken", **options)
    assert main(arguments) == 1
    interrupting = False
    assert main([*arguments, "--resume"]) == 0
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_stages_and_magnitudes_follow_the_step(
    clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    loss = Finetuner.loss

    def noted(self: Finetuner, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(images.shape))
        return loss(self, images, labels)

    monkeypatch.setattr(Finetuner, "loss", noted)
    arguments = tiny_finetune(
        clothes,
        tmp_path / "run",
        curriculum__name="efficienttrain",
        model__image_size=28,
        optim__micro_batch_size=4,
    )
    assert main(arguments) == 0
    lines = [line for line in Run(tmp_path / "run").read_metrics() if "loss" in line]
    assert [line["size"] for line in lines] == [20] * 6 + [24] * 2 + [28] * 2
    # 4 images of 28 × 28 have the pixels of 8 of 20 × 20 (within 5 %), 16 images make a step
    assert seen == [(8, 1, 20, 20)] * 12 + [(4, 1, 24, 24)] * 8 + [(4, 1, 28, 28)] * 8


def test_weights_of_classes(clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean loss with weights of mean one over the training images."""
    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]] = []
    loss = Finetuner.loss

    def noted(self: Finetuner, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        value = loss(self, images, labels)
        assert self.class_weights is not None
        with torch.no_grad():
            seen.append((self.model(images), labels, value.detach(), self.class_weights))
        return value

    monkeypatch.setattr(Finetuner, "loss", noted)
    options: dict[str, object] = {
        "augment.mixup": 0,
        "augment.cutmix": 0,
        "augment.label_smoothing": 0,
        "model.drop_path": 0,
        "optim.class_weights": "[1, 2, 1, 1, 1, 1, 1, 1, 1, 1]",
    }
    assert main(tiny_finetune(clothes, tmp_path / "run", **options)) == 0
    for logits, labels, value, weights in seen:
        torch.testing.assert_close(weights.mean(), torch.tensor(1.0))
        torch.testing.assert_close(weights[1], 2 * weights[0])
        single = F.cross_entropy(logits, labels, reduction="none")
        torch.testing.assert_close(value, (weights[labels] * single).mean())


def test_a_run_without_progress_ends_early_and_stays_ended(
    clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top1 = iter([0.3, 0.5, 0.4, 0.5, 0.9])
    evaluate = Finetuner.evaluate

    def scripted(self: Finetuner, chunks: Any) -> dict[str, float]:
        return {**evaluate(self, chunks), "top1": next(top1)}

    monkeypatch.setattr(Finetuner, "evaluate", scripted)
    arguments = tiny_finetune(
        clothes, tmp_path / "run", run__patience=2, run__eval_every=2, optim__epochs=4
    )
    assert main(arguments) == 0
    steps = [line["step"] for line in Run(tmp_path / "run").read_metrics() if "loss" in line]
    assert steps[-1] == 8  # of 20; evaluations at 2, 4, 6 and 8, the best at 4
    assert json.loads((tmp_path / "run/best/config.json").read_text())["metrics"]["top1"] == 0.5
    last = weights(tmp_path / "run")
    assert main([*arguments, "--resume"]) == 0
    assert [
        line["step"] for line in Run(tmp_path / "run").read_metrics() if "loss" in line
    ] == steps
    again = weights(tmp_path / "run")
    assert all(torch.equal(last[name], again[name]) for name in last)


@pytest.fixture(scope="module")
def finished(clothes: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned something."""
    run = tmp_path_factory.mktemp("finished") / "run"
    options: dict[str, object] = {
        "augment.mixup": 0,
        "augment.cutmix": 0,
        "augment.randaug": "null",
        "optim.base_lr": 0.2,
        "optim.epochs": 12,
        "run.eval_every": 15,
        "optim.layer_decay": 1.0,
        "data.eval_crop": 1.0,
    }
    assert main(tiny_finetune(clothes, run, **options)) == 0
    return run


def test_report_agrees_with_plain_counting(finished: Path, clothes: str) -> None:
    rows = datasets.Dataset.from_parquet(str(finished / "predictions.parquet"))
    report = json.loads((finished / "report.json").read_text())
    truth = datasets.load_dataset("parquet", data_dir=clothes.partition(":")[2], split="test")
    names = truth.features["label"].names
    assert rows["label"][:] == [names[label] for label in truth["label"]]
    probabilities = torch.tensor(rows["probabilities"][:])
    torch.testing.assert_close(probabilities.sum(1), torch.ones(30))
    predicted = [names[label] for label in probabilities.argmax(1)]
    assert rows["prediction"][:] == predicted
    hits = [a == b for a, b in zip(predicted, rows["label"], strict=True)]
    assert report["top1"] == pytest.approx(sum(hits) / 30)
    for name in names:
        own = [hit for hit, label in zip(hits, rows["label"], strict=True) if label == name]
        assert report["classes"][name] == {"images": 3, "accuracy": pytest.approx(sum(own) / 3)}
    assert report["mean_class_accuracy"] == pytest.approx(report["top1"])  # as many of each
    best = max(line["top1"] for line in Run(finished).read_metrics() if "top1" in line)
    assert report["top1"] == pytest.approx(best)
    assert report["top1"] > 0.2
    assert (finished / "confusion.png").stat().st_size > 10_000


def test_unreadable_images_are_not_in_the_report(image_folder: Path, tmp_path: Path) -> None:
    """In their place training sees other images, which must not count twice."""
    damaged_folder(image_folder, tmp_path / "data" / "test", 7)
    shutil.copytree(image_folder, tmp_path / "data" / "train")
    path = f"imagefolder:{tmp_path / 'data'}"
    run = tmp_path / "run"
    assert main(tiny_finetune(path, run, data__max_bad_share=0.1)) == 0
    rows = datasets.Dataset.from_parquet(str(run / "predictions.parquet"))
    assert len(set(rows["image"][:])) == len(rows) == 73
    report = json.loads((run / "report.json").read_text())
    assert report["images"] == 73
    best = max(line["top1"] for line in Run(run).read_metrics() if "top1" in line)
    assert report["top1"] == pytest.approx(best)


def test_prediction_of_a_folder(
    finished: Path, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = damaged_folder(image_folder, tmp_path / "images", 2)
    out = tmp_path / "new" / "predictions.csv"
    arguments = ["predict", f"--checkpoint={finished}", f"--data={folder}", f"--out={out}"]
    assert main([*arguments, "--num_workers=0", "--batch_size=7"]) == 0
    assert main([*arguments, "--num_workers=0"]) == 0  # in place of the first ones
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 80
    damaged = [row for row in rows if not row["prediction"]]
    assert len(damaged) == 2
    assert capsys.readouterr().err.count("unreadable: ") == 2 * 2

    from PIL import Image

    model = timm.create_model(f"local-dir:{finished / 'best'}", pretrained=True).eval()
    transform = timm.data.create_transform(
        **timm.data.resolve_model_data_config(model), is_training=False
    )
    names = json.loads((finished / "best" / "config.json").read_text())["label_names"]
    for row in rows:
        if row in damaged:
            continue
        with Image.open(row["file"]) as image, torch.no_grad():
            expected = model(transform(image.convert("L"))[None]).softmax(1)[0]
        assert [float(row[name]) for name in names] == pytest.approx(expected.tolist(), abs=1e-5)
        assert float(row["probability"]) == max(float(row[name]) for name in names)
        assert row["prediction"] == max(names, key=lambda name: float(row[name]))


def test_sweep_of_layer_decay(
    clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    arguments = [*tiny_finetune(clothes, folder), "--sweep.layer_decay=0.5,1"]
    assert main(arguments) == 0
    table = json.loads((folder / "sweep.json").read_text())
    assert [row["layer_decay"] for row in table] == [0.5, 1.0]
    for row in table:
        run = folder / f"layer_decay_{row['layer_decay']:g}"
        top1 = [line["top1"] for line in Run(run).read_metrics() if "top1" in line]
        assert (row["best"], row["last"]) == (max(top1), top1[-1])
    assert "layer decay" in capsys.readouterr().out
    alone = tiny_finetune(clothes, tmp_path / "alone", optim__layer_decay=0.5)
    assert main(alone) == 0
    swept, single = weights(folder / "layer_decay_0.5"), weights(tmp_path / "alone")
    assert all(torch.equal(swept[name], single[name]) for name in single)

    assert main([*arguments, "--resume"]) == 0
    assert json.loads((folder / "sweep.json").read_text()) == table
    assert main([*arguments, "--resume", "--optim.epochs=3"]) == 2  # another configuration


def test_folds_choose_without_the_images_to_evaluate_on(
    clothes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    swept = ["--sweep.base_lr=1e-4,0.02", "--sweep.epochs=4", "--sweep.folds=2"]
    arguments = [*tiny_finetune(clothes, folder), *swept]
    assert main(arguments) == 0
    table = json.loads((tmp_path / "sweep_folds" / "sweep.json").read_text())
    assert [(row["base_lr"], row["epochs"]) for row in table] == [(1e-4, 4.0), (0.02, 4.0)]
    assert all(row["deviation"] >= 0 for row in table)
    best = max(table, key=lambda row: float(row["last"]))
    assert f"chosen by 2 folds: optim.base_lr {best['base_lr']:g}" in (capsys.readouterr().out)
    folds = tmp_path / "sweep_folds"
    for fold in (1, 2):
        run = Run(folds / f"base_lr_{best['base_lr']:g}_epochs_4" / f"fold_{fold}")
        assert run.section("images")["train"] == run.section("images")["eval"] == 40
        assert run.section("data")["fold"] == [fold, 2]
    images = Run(folder).section("images")
    assert (images["train"], images["eval"]) == (80, 30)
    assert Run(folder).section("optim")["base_lr"] == best["base_lr"]
    assert main([*arguments, "--resume"]) == 0
    assert json.loads((tmp_path / "sweep_folds" / "sweep.json").read_text()) == table


@pytest.mark.parametrize(
    ("name", "encoder_args", "image_size", "tensor"),
    [
        ("resnet10t", "{}", 32, "conv1.0.weight"),
        ("tests.support.own_model:windowed", "{}", 56, "stem.weight"),
        (
            "cswin_tiny_224",
            "{embed_dim: 8, depths: [1, 1, 1, 1], num_heads: [2, 2, 2, 2]}",
            32,
            "stage1_conv_embed.0.weight",
        ),
        (
            "pvt_v1_tiny",
            "{patch_size: 1, embed_dims: [8, 8, 16, 16], depths: [1, 1, 1, 1], "
            "num_heads: [1, 1, 2, 2], mlp_ratios: [2, 2, 2, 2]}",
            32,
            "pos_embed1",
        ),
    ],
)
def test_backbones_that_are_no_vit(
    name: str,
    encoder_args: str,
    image_size: int,
    tensor: str,
    clothes: str,
    image_folder: Path,
    tmp_path: Path,
) -> None:
    """Trained through the stages, reported, opened again, and used as a start."""
    run, is_own = tmp_path / "run", ":" in name
    options: dict[str, object] = {
        "model.encoder": name,
        "model.encoder_args": encoder_args,
        "model.patch_size": "null",
        "model.image_size": image_size,
        "model.drop_path": 0,
        "curriculum.name": "efficienttrain",
        "optim.layer_decay": 1.0,
    }
    assert main(tiny_finetune(clothes, run, **options)) == 0
    top1 = json.loads((run / "report.json").read_text())["top1"]
    out = tmp_path / "predictions.csv"
    own = [f"--encoder={name}"] if is_own else []
    folder = clothes.partition(":")[2]
    arguments = ["predict", f"--checkpoint={run}", f"--data=parquet:{folder}", f"--out={out}"]
    assert main([*arguments, "--split=test", "--num_workers=0", *own]) == 0
    with out.open(newline="") as file:
        predicted = [row["prediction"] for row in csv.DictReader(file)]
    rows = datasets.Dataset.from_parquet(str(run / "predictions.parquet"))
    assert predicted == rows["prediction"][:]
    hits = [a == b for a, b in zip(predicted, rows["label"], strict=True)]
    assert sum(hits) / 30 == pytest.approx(top1)
    if not is_own:
        exported, features = tmp_path / "exported", tmp_path / "features.npy"
        export = ["export", f"--checkpoint={run}", "--format=timm", f"--out={exported}"]
        assert mae_et_main(export) == 0
        card = (exported / "README.md").read_text()
        assert ("import mae_et.model" in card) == name.startswith(("cswin", "pvt"))
        embed = ["embed", f"--checkpoint={exported}", f"--data.path=parquet:{folder}"]
        embed += ["--data.split=test", "--data.num_workers=0", f"--out={features}"]
        assert mae_et_main(embed) == 0
        vectors = torch.from_numpy(np.load(features))
        head = timm.create_model(f"local-dir:{exported}", pretrained=True).get_classifier()
        names = json.loads((run / "best/config.json").read_text())["label_names"]
        assert [names[number] for number in head(vectors).argmax(1)] == predicted
    again = tiny_finetune(
        clothes,
        tmp_path / "again",
        **{**options, "checkpoint": run, "optim.base_lr": 1e-9, "optim.min_lr": 0},
    )
    assert main(again) == 0
    first, second = weights(run, "best"), weights(tmp_path / "again")
    torch.testing.assert_close(first[tensor], second[tensor], atol=1e-7, rtol=0)


def test_a_run_whose_loader_makes_small_images(
    clothes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through its stages, whatever the number of workers, and not by the exact crop."""
    losses = {}
    for downsample, workers in (("loader", 0), ("loader", 2), ("device", 0)):
        run = tmp_path / f"{downsample}{workers}"
        arguments = tiny_finetune(
            clothes,
            run,
            curriculum__name="stages",
            curriculum__stages="[{size: 8}, {size: 12}, {size: 16}]",
            data__downsample=downsample,
            data__num_workers=workers,
        )
        assert main(arguments) == 0
        lines = [line for line in Run(run).read_metrics() if "loss" in line]
        assert [line["size"] for line in lines] == [8] * 3 + [12] * 4 + [16] * 3
        losses[downsample, workers] = [line["loss"] for line in lines]
    assert losses["loader", 0] == losses["loader", 2]
    assert losses["loader", 0] != losses["device", 0]
    assert losses["loader", 0] == pytest.approx(losses["device", 0], rel=0.1)
