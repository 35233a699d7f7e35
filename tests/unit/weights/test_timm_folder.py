"""Handing the encoder on to plain timm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from mae_et import MaskedAutoencoder, export_encoder
from mae_et.weights.timm_folder import as_timm_names_them, build_timm_model
from tests.support.models import SMALL, BuildMAE


@pytest.fixture
def trained(tiny_mae: BuildMAE) -> BuildMAE:
    """Small models none of whose weights is at its initial value."""

    def build(encoder: str = "vit_base_patch16_224", **changes: Any) -> MaskedAutoencoder:
        encoder_args: dict[str, Any] = {**SMALL}
        if "global_pool" in changes:
            encoder_args["global_pool"] = changes.pop("global_pool")
        sizes = {"image_size": 32, "patch_size": 8}
        model = tiny_mae(encoder, encoder_args=encoder_args, **sizes | changes)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn(parameter.shape))
        return model.eval()

    return build


@pytest.mark.parametrize("input_size", [None, (16, 24)])
@pytest.mark.parametrize(
    "arguments", [{}, {"positions": "learned"}, {"image_size": (24, 48)}, {"global_pool": "avg"}]
)
@pytest.mark.parametrize(
    "encoder",
    [
        "vit_base_patch16_224",
        "vit_base_patch16_gap_224",
        "vit_small_patch14_reg4_dinov2",
        "vit_base_patch16_clip_224",
    ],
)
def test_exported_encoder_in_plain_timm(
    trained: BuildMAE,
    tmp_path: Path,
    encoder: str,
    arguments: dict[str, Any],
    input_size: tuple[int, int] | None,
) -> None:
    model = trained(encoder, **arguments)
    if input_size is not None:
        model.set_input_size(input_size)  # the export has full-grid positions all the same
    export_encoder(model, tmp_path / "encoder")
    opened = timm.create_model(f"local-dir:{tmp_path / 'encoder'}", pretrained=True).eval()

    own = model.encoder.state_dict()
    assert opened.state_dict().keys() == own.keys()
    for name, value in opened.state_dict().items():
        assert torch.equal(value, own[name]), name
    height, width = arguments.get("image_size", (32, 32))
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(opened.forward_features(images), model.encoder.forward_features(images))
        assert torch.equal(opened(images), model.encoder(images))
    assert opened(images).shape == (2, 32)


def test_exported_config(trained: BuildMAE, tmp_path: Path) -> None:
    model = trained("vit_base_patch16_224", in_chans=1, image_size=(24, 48), patch_size=(4, 8))
    export_encoder(model, tmp_path / "encoder", mean=(0.25,), std=(0.5,))
    config = json.loads((tmp_path / "encoder" / "config.json").read_text())
    assert config["architecture"] == "vit_base_patch16_224"
    assert config["num_classes"] == 0
    assert config["pretrained_cfg"]["input_size"] == [1, 24, 48]
    assert config["pretrained_cfg"]["mean"] == [0.25]
    assert config["pretrained_cfg"]["std"] == [0.5]
    assert config["pretrained_cfg"]["crop_pct"] == 0.875
    opened = timm.create_model(f"local-dir:{tmp_path / 'encoder'}", pretrained=True)
    assert list(opened.pretrained_cfg["mean"]) == [0.25]
    assert opened.patch_embed.patch_size == (4, 8)
    assert opened.patch_embed.proj.weight.shape == (32, 1, 4, 8)


def test_export_replaces_an_older_one(trained: BuildMAE, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    export_encoder(trained("vit_base_patch16_gap_224"), folder)
    (folder / "left_over").touch()
    model = trained("vit_base_patch16_224")
    export_encoder(model, folder)
    assert "cls_token" in timm.create_model(f"local-dir:{folder}", pretrained=True).state_dict()
    assert not (folder / "left_over").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "hf-hub:me/other"},
        {"architecture": "local-dir:/tmp"},
        {"model_args": {"checkpoint_path": "other.pth"}},
        {"model_args": {"pretrained_cfg_overlay": {"file": "other.pth"}}},
        {"pretrained_cfg": {"file": "other.pth", "source": "local-dir"}},
    ],
)
def test_a_folder_opens_no_other_weights(tmp_path: Path, changes: dict[str, Any]) -> None:
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "other.pth")
    text = json.dumps(
        {"architecture": "test_vit", "num_classes": 0, "pretrained_cfg": {}} | changes
    )
    config = json.loads(text.replace("other.pth", str(tmp_path / "other.pth")))
    weights = timm.create_model("test_vit", num_classes=0).state_dict()
    if "pretrained_cfg" in changes:
        built = build_timm_model(config, weights, tmp_path)
        assert torch.equal(built.state_dict()["cls_token"], weights["cls_token"])
        return
    with pytest.raises(
        ValueError, match=r"can't be opened by timm: (architecture|model_args) must"
    ):
        build_timm_model(config, weights, tmp_path)
    assert as_timm_names_them(weights, config) == (weights, None)
