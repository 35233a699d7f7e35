"""Runs on images of many channels and deep pixels."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pytest
import timm
import torch
from PIL import Image

from finetune.__main__ import main as finetune_main
from mae_et.__main__ import main
from mae_et.data.images import deep
from mae_et.runs import Run
from tests.support.arguments import tiny, tiny_finetune
from tests.support.arrays import CHANNELS, pixels, tiff
from tests.support.stats import printed


def test_the_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        (tmp_path / f"{number}.tif").write_bytes(tiff(pixels(), photometric="minisblack"))
    monkeypatch.setattr(deep, "tifffile", None)
    arguments = spectral(
        f"imagefolder:{tmp_path}", tmp_path / "run", data__eval_images=1, optim__epochs=40
    )
    assert main(["pretrain", *arguments]) == 2
    assert "pip install -e '.[tiff]'" in capsys.readouterr().err


def spectral(path: str, run: Path, **overrides: object) -> list[str]:
    """Arguments of a tiny run on images of five channels."""
    statistics = {"data.mean": [0.1, 0.2, 0.3, 0.4, 0.5], "data.std": [0.1] * 5}
    return tiny(path, run, **{"model.in_chans": CHANNELS, **statistics, **overrides})


def test_from_statistics_to_a_classifier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """16 bits, five channels: statistics, a run, its picture, a classifier, and its predictions."""
    features = datasets.Features(
        {
            "image": datasets.Array3D((CHANNELS, 20, 30), "uint16"),
            "label": datasets.ClassLabel(names=["a", "b"]),
        }
    )
    for split, first in (("train", 0), ("test", 40)):
        numbers = range(first, first + 40)
        images = [pixels(number=number) // (1 + number % 2) for number in numbers]
        rows = {"image": images, "label": [number % 2 for number in numbers]}
        table = datasets.Dataset.from_dict(rows, features=features)
        table.to_parquet(tmp_path / "data" / f"{split}.parquet")
        if split == "train":
            whole = np.stack(images).transpose(1, 0, 2, 3).reshape(CHANNELS, -1) / 65535
    path, run = f"parquet:{tmp_path / 'data'}", tmp_path / "run"
    assert main(["stats", f"--data.path={path}", f"--in_chans={CHANNELS}"]) == 0
    mean, std = printed(capsys.readouterr().out)
    assert mean == pytest.approx(whole.mean(1), rel=1e-4)
    assert std == pytest.approx(whole.std(1), rel=1e-4)

    statistics = {"data.mean": mean, "data.std": std, "model.in_chans": CHANNELS}
    pretraining = tiny(path, run, eval__knn_every=5, **statistics)
    assert main(["pretrain", *pretraining]) == 0
    assert all(np.isfinite(line["loss"]) for line in Run(run).read_metrics() if "loss" in line)
    encoder = timm.create_model(f"local-dir:{run / 'encoder'}", pretrained=True).eval()
    assert encoder(torch.zeros(1, CHANNELS, 16, 16)).shape == (1, 16)

    picture = tmp_path / "picture.png"
    drawn = ["reconstruct", f"--checkpoint={run}", f"--out={picture}", "--num_images=2"]
    assert main([*drawn, "--channels=[4, 2, 0]"]) == 0
    assert len(np.unique(np.asarray(Image.open(picture)))) > 100
    assert main([*drawn, "--channels=[5]"]) == 2
    assert "--channels must be one or three channels, from 0 to 4" in capsys.readouterr().err
    out = tmp_path / "out"
    assert main(["export", f"--checkpoint={run}", "--format=timm", f"--out={out}"]) == 0
    assert "5 channels, unsigned numbers divided" in (out / "README.md").read_text()

    classifier = tmp_path / "classifier"
    finetuning = tiny_finetune(path, classifier, checkpoint=run, optim__epochs=6, **statistics)
    assert finetune_main(finetuning) == 2
    assert "augment.randaug must be null for model.in_chans 5" in capsys.readouterr().err
    finetuning += ["--augment.randaug=null", "--augment.mixup=0", "--augment.cutmix=0"]
    finetuning += ["--optim.base_lr=0.05", "--optim.layer_decay=1", "--augment.crop_scale=[0.8, 1]"]
    assert finetune_main(finetuning) == 0
    out = tmp_path / "predictions.csv"
    predicting = [f"--checkpoint={classifier}", f"--data={path}", f"--out={out}", "--split=test"]
    assert finetune_main(["predict", *predicting, "--num_workers=0"]) == 0
    best = max(line["top1"] for line in Run(classifier).read_metrics() if "top1" in line)
    lines = [line.split(",") for line in out.read_text().splitlines()[1:]]
    right = [line[1] == "ab"[number % 2] for number, line in enumerate(lines)]
    assert np.mean(right) == best > 0.8
