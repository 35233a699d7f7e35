"""Classifiers that can't be trusted: what is refused, and what is an error of an image."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from finetune.__main__ import predict as main
from finetune.config import ClassifierConfig, DataConfig
from finetune.model import build_classifier, load_classifier, save_classifier
from mae_et.data import EveryImage
from mae_et.errors import ProcessStoppedError
from tests.support.models import SMALL, randomized
from tests.support.stranger import Runs

MODEL = ClassifierConfig(
    encoder="vit_tiny_patch16_224", encoder_args=SMALL, image_size=16, patch_size=8, in_chans=3
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A classifier of two classes."""
    model = randomized(build_classifier(MODEL, ["a", "b"], "none").model)
    source = DataConfig(path="x", mean=(0.5,) * 3, std=(0.2,) * 3)
    save_classifier(model, tmp_path / "classifier", MODEL, source, ["a", "b"], {})
    return tmp_path / "classifier"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_args.num_classes": 5}, r"model_args\.num_classes of .* must be 2, got 5"),
        ({"model_args.num_classes": 0}, r"model_args\.num_classes of .* must be 2, got 0"),
        ({"model_args.num_heads": -1}, "can't be opened"),
        ({"model_args.num_heads": 3}, "can't be opened"),
        ({"model_args.patch_size": True}, "can't be opened"),
        ({"model_args.patch_size": [10**6, 8]}, "can't be opened"),
        ({"model_args.embed_dim": 10**9}, "can't be opened"),
        ({"model_args.mlp_ratio": 10**6}, "can't be opened.* of another architecture"),
        ({"model_args.act_layer": 3}, "can't be opened"),
        ({"pretrained_cfg.input_size": [3, 10**6, 10**6]}, "can't be opened: input_size must be"),
        ({"pretrained_cfg.input_size": [3, 24, 24]}, "can't be opened"),
        ({"pretrained_cfg.mean": [0.5, "x", 0.5]}, "can't be opened"),
        (
            {"pretrained_cfg.std": [0.5, 0.5]},
            "can't be opened: std must be a finite number above 0 for",
        ),
        ({"pretrained_cfg.std": [0.5, 0, 0.5]}, "can't be opened: std must be .* above 0"),
        ({"pretrained_cfg.crop_pct": "x"}, "can't be opened"),
        ({"pretrained_cfg.interpolation": "x"}, "can't be opened"),
        ({"pretrained_cfg.input_size": [3, True, 16]}, "can't be opened: input_size must be"),
    ],
)
def test_what_config_json_says_must_be_the_classifier(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    """Within a second or two, and before any image is read."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    for name, value in changes.items():
        section, key = name.split(".")
        config[section][key] = value
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message) as caught:
        load_classifier(folder)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((2, 32), float("nan")), "must hold finite numbers, got others in head.weight"),
        (torch.ones(2, 32, dtype=torch.int8), "weights in float16, .* got int8 as head.weight"),
        (torch.ones(3, 32), r"another architecture \(shape: head.weight \(3, 32\) for \(2, 32"),
        (None, r"another architecture \(missing: head\.weight\)"),
    ],
)
def test_weights_that_are_none(folder: Path, value: torch.Tensor | None, message: str) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    del weights["head.weight"]
    save_file(weights | ({"head.weight": value} if value is not None else {}), file)
    with pytest.raises(ValueError, match=message):
        load_classifier(folder)


def test_a_pickle_is_not_executed_nor_recommended(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"head.weight": Runs(tmp_path / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="holds more than tensors, and was not executed") as caught:
        load_classifier(folder)
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_weights_as_torch_saves_them(folder: Path) -> None:
    expected, *_ = load_classifier(folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    found, names, _ = load_classifier(folder)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert names == ["a", "b"]
    assert torch.equal(found(images), expected(images))


def test_outputs_that_are_no_numbers_are_no_class(
    folder: Path, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights that are finite and too large make infinite numbers."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    weights["head.weight"] = torch.full((2, 32), 1e38)
    weights["fc_norm.bias"] = torch.full((32,), 100.0)
    save_file(weights, file)
    out = tmp_path / "out.csv"
    arguments = {"checkpoint": folder, "data": image_folder, "out": out, "num_workers": 0}
    with pytest.raises(ValueError, match="--data must be images; none of 80 is readable"):
        main([f"--{name}={value}" for name, value in arguments.items()])
    rows = list(csv.reader(out.read_text().splitlines()))
    assert len(rows) == 81
    assert {tuple(row[1:]) for row in rows[1:]} == {("", "", "", "")}
    assert "the classifier's outputs are not finite" in capsys.readouterr().err


def test_an_image_that_hangs_is_an_error_after_a_time(
    folder: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the words of this command, which has no run to resume."""
    monkeypatch.setattr(EveryImage, "__getitem__", lambda *_: time.sleep(60))
    arguments = {"checkpoint": folder, "data": image_folder, "out": tmp_path / "out.csv"}
    options = [f"--{name}={value}" for name, value in arguments.items()]
    with pytest.raises(ProcessStoppedError) as caught:
        main([*options, "--num_workers=0", "--max_wait=0.5"])
    assert str(caught.value) == (
        "the loader has handed over no batch for 0.5 seconds (--max_wait); is a disk or a server "
        "slow or gone?"
    )
    assert not (tmp_path / "out.csv").exists()
