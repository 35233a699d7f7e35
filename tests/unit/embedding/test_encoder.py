"""Checkpoints of every kind give timm's own features, and tell what they were made for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import save_for_hf
from torch import Tensor

from mae_et.config import EmbedConfig
from mae_et.embedding.encoder import Encoder, open_encoder
from mae_et.weights import export_encoder
from tests.support.models import SMALL, BuildMAE, make_classifier, randomized


def opened(checkpoint: Path, **options: Any) -> Encoder:
    return open_encoder(
        EmbedConfig(checkpoint=str(checkpoint), path="x", out="/tmp/f.npy", **options)
    )


def images(channels: int = 3, size: int = 32) -> Tensor:
    return torch.rand(4, channels, size, size, generator=torch.Generator().manual_seed(0))


def folder_of(model: Any, folder: Path, **pretrained_cfg: Any) -> Path:
    config = {"pretrained_cfg": pretrained_cfg}
    save_for_hf(model, str(folder), model_config=config, safe_serialization=True)
    return folder


@torch.no_grad()
def assert_features(encoder: Encoder, expected: Tensor, batch: Tensor) -> None:
    assert expected.std() > 1e-3
    assert encoder.dim == expected.shape[1]
    torch.testing.assert_close(encoder.model(batch), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_encoder_of_ours(tiny_mae: BuildMAE, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {
        "encoder_args": SMALL,
        "image_size": 32,
        "patch_size": 8,
        "in_chans": 5,
    }
    mae = randomized(tiny_mae(**sizes))
    export_encoder(mae, tmp_path / "encoder", mean=[0.1] * 5, std=[0.2] * 5)
    model = timm.create_model(f"local-dir:{tmp_path / 'encoder'}", pretrained=True).eval()
    tokens = model.forward_features(images(5))
    encoder = opened(tmp_path / "encoder")
    assert encoder.pool == "avg"
    assert encoder.images["input_size"] == (5, 32, 32)
    assert encoder.images["mean"] == (0.1,) * 5
    assert_features(encoder, tokens[:, 1:].mean(1), images(5))
    assert_features(opened(tmp_path / "encoder", pool="token"), tokens[:, 0], images(5))


@torch.no_grad()
@pytest.mark.parametrize("pool", ["avg", "token"])
def test_a_classifier_pools_as_it_was_trained(tmp_path: Path, pool: str) -> None:
    model = make_classifier(global_pool=pool)
    expected = model.forward_head(model.forward_features(images()), pre_logits=True)
    encoder = opened(folder_of(model, tmp_path / "vit", mean=(0.5,) * 3, std=(0.25,) * 3))
    assert encoder.pool == pool
    assert encoder.images["std"] == (0.25,) * 3
    assert_features(encoder, expected, images())


@torch.no_grad()
def test_attention_pooling(tmp_path: Path) -> None:
    model = make_classifier(global_pool="map", class_token=False, num_classes=0)
    folder = folder_of(model, tmp_path / "vit")
    assert opened(folder).pool == "map"
    assert_features(opened(folder), model(images()), images())
    average = model.forward_features(images()).mean(1)
    assert_features(opened(folder, pool="avg"), average, images())
    with pytest.raises(ValueError, match="--pool must be one of avg, map, which are all that"):
        opened(folder, pool="token")


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto", "mobilenetv3_small_050"])
def test_other_architectures(tmp_path: Path, name: str) -> None:
    model = randomized(timm.create_model(name, num_classes=7))
    expected = model.forward_head(model.forward_features(images(size=64)), pre_logits=True)
    encoder = opened(folder_of(model, tmp_path / name, input_size=(3, 64, 64), crop_pct=0.9))
    assert encoder.images["crop_pct"] == 0.9
    assert_features(encoder, expected, images(size=64))
    torch.save({"state_dict": model.state_dict()}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"weights\.pth, got: does not tell its architecture"):
        opened(tmp_path / "weights.pth")
    bare = opened(tmp_path / "weights.pth", encoder=name, image_size=64)
    assert_features(bare, expected, images(size=64))


@torch.no_grad()
def test_weights_alone_tell_a_vit(tmp_path: Path) -> None:
    model = make_classifier(num_classes=0, global_pool="avg", fc_norm=False)
    expected = model(images())
    torch.save({"model": model.state_dict()}, tmp_path / "vit.pth")
    with pytest.raises(ValueError, match=r"model\.encoder_args must be with num_heads"):
        opened(tmp_path / "vit.pth")
    encoder = opened(tmp_path / "vit.pth", encoder_args={"num_heads": SMALL["num_heads"]})
    assert encoder.images["input_size"] == (3, 32, 32)
    assert_features(encoder, expected, images())


@torch.no_grad()
def test_a_folder_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTMAEConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        image_size=32,
        patch_size=8,
        decoder_hidden_size=32,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=128,
        mask_ratio=0.0,
    )
    model = randomized(transformers.ViTMAEModel(config))
    model.save_pretrained(tmp_path / "mae")
    noise = torch.arange(16.0).expand(4, 16)  # keeps the order of the patches
    tokens = model(images(), noise=noise).last_hidden_state
    assert_features(opened(tmp_path / "mae"), tokens[:, 1:].mean(1), images())


def test_a_folder_does_not_decide_what_is_run_or_fetched(tmp_path: Path) -> None:
    folder = folder_of(make_classifier(), tmp_path / "vit")
    file = folder / "config.json"
    config = json.loads(file.read_text())
    for changes, expected in (
        ({"architecture": "os:system"}, "must be the name of a timm model"),
        ({"model_args": {**config["model_args"], "pretrained": True}}, "without names of weights"),
        ({"model_args": {**config["model_args"], "depth": 10**6}}, "at most 256"),
        ({"pretrained_cfg": 3}, "damaged configuration"),
    ):
        file.write_text(json.dumps({**config, **changes}))
        with pytest.raises(ValueError, match=expected):
            opened(folder)
