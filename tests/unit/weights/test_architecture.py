"""Facts about an encoder that its tensors do not reveal: grids, heads, activations, epsilons."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from finetune.config import ClassifierConfig
from finetune.model import build_classifier
from mae_et import MaskedAutoencoder, export_encoder
from mae_et.model.pos_embed import resample_table
from mae_et.weights import find_weights, load_initial_weights
from tests.support.models import SMALL, BuildMAE, randomized

VIT = "vit_tiny_patch16_224"


def config(**changes: Any) -> ClassifierConfig:
    fields: dict[str, Any] = {"encoder": VIT, "encoder_args": SMALL}
    fields |= {"image_size": 32, "patch_size": 8} | changes
    return ClassifierConfig(in_chans=3, drop_path=0.0, **fields)


def file_of(model: MaskedAutoencoder, path: Path) -> torch.Tensor:
    """Write the encoder's tensors alone, with different positions, which are returned."""
    weights = dict(model.encoder.state_dict())
    shape = weights["pos_embed"].shape
    weights["pos_embed"] = torch.arange(float(shape.numel())).view(shape) / shape.numel()
    torch.save(weights, path)
    return weights["pos_embed"]


@pytest.mark.parametrize("task", ["pretraining", "fine-tuning"])
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ((16, 64), (16, 64), "the grid of its 16 positions: 2 x 8 is taken"),  # 4 x 4 before
        ((16, 48), (16, 48), ""),  # 12 positions are no square
        ((32, 32), (16, 80), "the grid of its 16 positions: 4 x 4 is taken"),
        ((32, 32), (48, 48), ""),
        ((32, 32), (32, 32), ""),
    ],
)
def test_the_grid_of_a_file(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    tiny_mae: BuildMAE,
    task: str,
    old: tuple[int, int],
    new: tuple[int, int],
    said: str,
) -> None:
    model = {"encoder_args": SMALL, "patch_size": 8, "in_chans": 3, "positions": "learned"}
    table = file_of(tiny_mae(VIT, **model, image_size=old), tmp_path / "encoder.pth")
    if task == "pretraining":
        mae = tiny_mae(VIT, **model, image_size=new)
        load_initial_weights(mae, tmp_path / "encoder.pth")
        loaded = mae.encoder.pos_embed
    else:
        path = str(tmp_path / "encoder.pth")
        loaded = build_classifier(config(image_size=new), ["a", "b"], path).model.pos_embed
    before, after = ((height // 8, width // 8) for height, width in (old, new))
    assert torch.equal(loaded, resample_table(table, before, after, 1))
    about = [r.getMessage() for r in caplog.records if "positions" in r.getMessage()]
    assert len(about) == bool(said)
    assert said in "".join(about)


@pytest.mark.parametrize("task", ["pretraining", "fine-tuning"])
@pytest.mark.parametrize(
    ("encoder", "changes", "message"),
    [
        (
            VIT,
            {"act_layer": "relu"},
            r"blocks\.0\.mlp\.act is ReLU\(\) for GELU\(\)\); give --model\.encoder "
            rf"{VIT} .*--model\.encoder_args\.act_layer relu",
        ),
        (VIT, {"act_layer": "quick_gelu"}, r"act is QuickGELU\(\) for GELU\(\)"),
        (VIT, {"act_layer": "gelu"}, None),  # the default, said aloud
        ("vit_tiny_patch16_224", {"drop_path_rate": 0.1}, None),
        (
            "vit_base_patch16_clip_224",
            {"pre_norm": False},
            r"blocks\.0\.norm1 is LayerNorm\(eps=1e-05\) for LayerNorm\(eps=1e-06\)\); give "
            r"--model\.encoder vit_base_patch16_clip_224",
        ),
        ("vit_base_patch16_rpn_224", {"class_token": True}, r"blocks\.0 is ResPostBlock\(\) for B"),
    ],
)
def test_layers_that_do_something_else(
    tmp_path: Path,
    tiny_mae: BuildMAE,
    task: str,
    encoder: str,
    changes: dict[str, Any],
    message: str | None,
) -> None:
    """Their tensors have the same shapes, and their outputs are others."""
    sizes = {"image_size": 32, "patch_size": 8, "in_chans": 3}
    args = {**SMALL, "global_pool": "token", **changes}
    theirs = randomized(tiny_mae(encoder, encoder_args=args, **sizes))
    export_encoder(theirs, tmp_path / "encoder")
    ours = tiny_mae(VIT, encoder_args=SMALL, **sizes)

    def load() -> Any:
        if task == "pretraining":
            load_initial_weights(ours, tmp_path / "encoder")
            return ours.encoder
        return build_classifier(config(), ["a", "b"], str(tmp_path / "encoder")).model

    if message is not None:
        with pytest.raises(ValueError, match=message):
            load()
        return
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second = (
            vit.eval().blocks(vit._pos_embed(vit.patch_embed(images)))
            for vit in (theirs.encoder, load())
        )
    assert torch.allclose(first, second, atol=1e-5)


def test_another_network_of_timm_s(tmp_path: Path) -> None:
    """Its tensors are those of another, whose layers are padded otherwise."""
    model = timm.create_model("tf_efficientnet_b0", num_classes=0)
    (tmp_path / "theirs").mkdir()
    save_file(model.state_dict(), tmp_path / "theirs/model.safetensors")
    described = {"architecture": "tf_efficientnet_b0", "num_classes": 0}
    (tmp_path / "theirs/config.json").write_text(json.dumps(described))
    other = config(encoder="efficientnet_b0", encoder_args={}, patch_size=None, global_pool=None)
    with pytest.raises(ValueError, match=r"conv_stem is Conv2dSame.* tf_efficientnet_b0$"):
        build_classifier(other, ["a", "b"], str(tmp_path / "theirs"))


def test_a_folder_of_the_hub_has_the_heads_of_its_architecture(tmp_path: Path) -> None:
    """It has no model_args: 6 heads of 64, which loaded as 3 heads of 128."""
    model = timm.create_model("vit_small_patch16_224", depth=1, num_classes=0)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    described = {"architecture": "vit_small_patch16_224", "num_classes": 0, "pretrained_cfg": {}}
    (tmp_path / "config.json").write_text(json.dumps(described))
    args = {"embed_dim": 384, "depth": 1, "num_heads": 3}
    with pytest.raises(ValueError, match=r"6 attention heads for 3\); give --model\.encoder vit_s"):
        build_classifier(
            config(encoder_args=args, image_size=224, patch_size=16), ["a", "b"], str(tmp_path)
        )


@pytest.mark.parametrize(
    "arguments",
    [
        {"depth": 10**9},
        {"embed_dim": -1},
        {"embed_dim": "x"},
        {"pretrained": True, "checkpoint_path": "/nowhere"},
        [3],
    ],
)
def test_arguments_of_a_stranger_s(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, arguments: Any
) -> None:
    """They build nothing large, fetch nothing and end nothing: the weights say the rest."""
    model = timm.create_model(VIT, depth=1, num_classes=0)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    described = {"architecture": VIT, "num_classes": 0, "model_args": arguments}
    (tmp_path / "config.json").write_text(json.dumps(described))
    with caplog.at_level(logging.WARNING):
        pretrained = find_weights(tmp_path).read()
    assert pretrained.num_heads in (None, 3)
    assert torch.equal(pretrained.weights["encoder.norm.weight"], model.norm.weight)
