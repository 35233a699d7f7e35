"""Probes: against plain loops, in a pretraining run, and from the command line of `finetune`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from finetune.__main__ import main as finetune_main
from mae_et.__main__ import main
from mae_et.evaluation.features import ProbeImages
from mae_et.runs import Run
from tests.support.arguments import tiny, tiny_finetune
from tests.support.images import damaged_folder
from tests.support.launch import run_two


def test_probes_of_a_run_do_not_change_it(clothes: str, tmp_path: Path) -> None:
    probes = {"eval__knn_every": 5, "eval__linear_every": 10, "probe__linear_epochs": 5}
    probes |= {"probe__linear_warmup_epochs": 1, "probe__k": 5}
    assert main(["pretrain", *tiny(clothes, tmp_path / "plain")]) == 0
    assert main(["pretrain", *tiny(clothes, tmp_path / "probed", **probes)]) == 0
    plain, probed = (
        load_file(tmp_path / name / "encoder" / "model.safetensors") for name in ("plain", "probed")
    )
    for name in plain:
        assert torch.equal(plain[name], probed[name]), name

    lines = Run(tmp_path / "probed").read_metrics()
    knn = {line["step"]: line["knn_top1"] for line in lines if "knn_top1" in line}
    linear = {line["step"]: line["linear_top1"] for line in lines if "linear_top1" in line}
    assert list(knn) == [5, 10, 15, 20]
    assert list(linear) == [10, 20]
    assert all(0.1 < score < 1 for score in knn.values())  # ten classes of clothes
    assert [line["step"] for line in lines if "eval_loss" in line] == [10, 20]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 21))


@pytest.mark.slow
def test_probes_in_two_processes(clothes: str, tmp_path: Path) -> None:
    probe = {"eval__knn_every": 5, "probe__k": 5, "optim__epochs": 2, "eval__images": 37}
    assert main(["pretrain", *tiny(clothes, tmp_path / "one", **probe)]) == 0
    result = run_two(["mae_et", "pretrain", *tiny(clothes, tmp_path / "two", **probe)])
    assert result.returncode == 0, result.stderr
    one, two = (
        [line["knn_top1"] for line in Run(tmp_path / name).read_metrics() if "knn_top1" in line]
        for name in ("one", "two")
    )
    assert len(one) == 2
    assert one == two


@pytest.fixture(scope="module")
def encoder(clothes: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("pretrained") / "run"
    assert main(["pretrain", *tiny(clothes, run, run__eval_every="null")]) == 0
    return run / "encoder"


def test_probes_from_the_command_line(
    encoder: Path,
    clothes: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probe: dict[str, object] = {"probe__linear_epochs": 10, "probe__linear_warmup_epochs": 1}
    probe |= {"probe__k": 5, "checkpoint": encoder}
    assert finetune_main(tiny_finetune(clothes, tmp_path / "out", mode="knn", **probe)) == 0
    knn = json.loads((tmp_path / "out" / "knn.json").read_text())
    assert knn["train_images"] == 80
    assert knn["test_images"] == 30
    assert f"{knn['top1']:.2%}" in capsys.readouterr().out
    on = {"path": clothes, "split": "train", "eval_split": "test", "label_column": "label"}
    assert on.items() <= knn["data"].items()
    assert "num_workers" not in knn["data"]
    assert knn["model"]["image_size"] == 16
    digest = knn["images"]["digest"]

    computed = []
    features = ProbeImages.features
    monkeypatch.setattr(ProbeImages, "features", lambda *a: computed.append(1) or features(*a))

    def linear(**changes: object) -> dict[str, Any]:
        options = {**probe, **changes, "mode": "linear"}
        assert finetune_main(tiny_finetune(clothes, tmp_path / "out", **options)) == 0
        score: dict[str, Any] = json.loads((tmp_path / "out" / "linear.json").read_text())
        return score

    assert linear()["rate"] in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    assert not computed  # cached by the first probe
    fewer, others = (linear(data__labels_per_class=4, data__label_seed=seed) for seed in range(2))
    assert fewer["train_images"] == 40
    assert fewer["images"] == others["images"]  # whichever of them a seed chooses
    assert fewer["images"]["digest"].split("-")[1] == digest.split("-")[1]
    assert fewer["probe"]["linear_epochs"] == 10
    assert len(computed) == 2  # other images: computed again

    def no_space(*_: object) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("finetune.probe.save_file", no_space)
    assert linear(data__labels_per_class=3)["train_images"] == 30  # the score is what matters


def test_unreadable_images_are_no_part_of_a_probe(
    encoder: Path, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "test"):
        damaged_folder(image_folder, tmp_path / "data" / split, 4)
    options: dict[str, object] = {"checkpoint": encoder, "mode": "knn", "probe.k": 5}
    arguments = tiny_finetune(f"imagefolder:{tmp_path / 'data'}", tmp_path / "out", **options)
    assert finetune_main(arguments) == 3
    assert "4 of 80 images to probe are unreadable" in capsys.readouterr().err
    assert finetune_main([*arguments, "--data.max_bad_share=0.1"]) == 0
    scores = json.loads((tmp_path / "out" / "knn.json").read_text())
    assert (scores["train_images"], scores["test_images"]) == (76, 76)
    assert scores["top1"] > 0.3  # each test image is a training image too, one of five voters
    assert not (tmp_path / "out" / "features.safetensors").exists()  # who knows why they failed


@pytest.mark.parametrize("change", ["max_pixels", "other files", "nothing"])
def test_features_are_computed_again_if_the_images_are_others(
    encoder: Path,
    image_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    """Also if a file of the same name, size and time has taken the place of another."""
    shutil.copytree(image_folder, tmp_path / "data" / "train")
    shutil.copytree(image_folder, tmp_path / "data" / "test")
    options: dict[str, object] = {"checkpoint": encoder, "mode": "knn", "probe.k": 5}
    arguments = tiny_finetune(f"imagefolder:{tmp_path / 'data'}", tmp_path / "out", **options)
    assert finetune_main(arguments) == 0
    computed = []
    features = ProbeImages.features
    monkeypatch.setattr(ProbeImages, "features", lambda *a: computed.append(1) or features(*a))
    if change == "max_pixels":
        arguments.append("--data.max_pixels=100000")
    elif change == "other files":
        file = next((tmp_path / "data" / "train").rglob("*.png"))
        before = file.stat()
        other = bytes(reversed(file.read_bytes()))
        file.unlink()
        file.write_bytes(other)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        arguments.append("--data.max_bad_share=0.5")
    assert finetune_main(arguments) == 0
    assert len(computed) == (change != "nothing")
    scores = json.loads((tmp_path / "out" / "knn.json").read_text())
    assert scores["train_images"] == 80 - (change == "other files")


@pytest.mark.parametrize("crop", [1.0, None])
def test_features_are_the_frozen_encoders(
    encoder: Path, clothes: str, tmp_path: Path, crop: float | None
) -> None:
    """The features of a probe are timm's own for the same images, as in the README."""
    import timm

    from mae_et.data.sources import load_splits

    changes = {} if crop is None else {"data__eval_crop": crop}
    arguments = tiny_finetune(clothes, tmp_path / "out", mode="knn", checkpoint=encoder, **changes)
    assert finetune_main(arguments) == 0
    saved = load_file(tmp_path / "out" / "features.safetensors")
    model = timm.create_model(f"local-dir:{encoder}", pretrained=True, global_pool="avg").eval()
    config = timm.data.resolve_model_data_config(model)
    if crop is not None:
        config["crop_pct"] = crop
    transform = timm.data.create_transform(**config)
    rows = load_splits(clothes)["test"]
    images: Tensor = torch.stack([transform(row["image"]) for row in rows])
    with torch.no_grad():
        expected = model(images)
    torch.testing.assert_close(saved["test.values"], expected)
    assert saved["test.labels"].tolist() == rows["label"][:]
