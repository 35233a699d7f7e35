"""Masked autoencoders out of checkpoints: of which architecture, or why not."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mae_et import load_mae_checkpoint
from tests.support.models import save
from tests.support.reference_mae import ReferenceMAE


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Of a reference model that is as small as its width of 768 allows."""
    torch.manual_seed(0)
    return ReferenceMAE(
        image_size=(32, 32),
        patch_size=(16, 16),
        in_chans=1,
        dim=768,
        depth=1,
        num_heads=12,
        decoder_dim=16,
        decoder_depth=1,
        decoder_num_heads=16,
    ).state_dict()


@pytest.mark.parametrize("folder", ["empty", "with_config"])
def test_a_folder_that_is_no_run(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    if folder == "with_config":
        (tmp_path / folder / "config.yaml").write_text("model: {}\n")
    with pytest.raises(ValueError, match=rf"run's folder with a checkpoint.*{folder}"):
        load_mae_checkpoint(tmp_path / folder)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_reference_training_checkpoints(
    tmp_path: Path, weights: dict[str, Tensor], kind: str
) -> None:
    arguments = argparse.Namespace(lr=1e-3, model="mae_vit_base_patch16", device="cuda")
    content = {"model": weights, "args": arguments, "epoch": 3, "optimizer": {"state": {}}}
    save(content, tmp_path / "mae.pth", kind)
    model = load_mae_checkpoint(tmp_path / "mae.pth")
    for name, value in weights.items():
        own = name if name.startswith(("decoder_", "mask_token")) else f"encoder.{name}"
        assert torch.equal(model.state_dict()[own], value)
    assert torch.equal(model.encoder_positions, weights["pos_embed"])


def test_an_encoder_alone_is_refused(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    encoder = {k: v for k, v in weights.items() if not k.startswith(("decoder_", "mask_token"))}
    torch.save({"model": encoder}, tmp_path / "mae.pth")
    with pytest.raises(
        ValueError, match=r"with its decoder, got one without decoder_embed\.weight"
    ):
        load_mae_checkpoint(tmp_path / "mae.pth")


def test_another_family_is_refused(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(3)}, tmp_path / "resnet.safetensors")
    with pytest.raises(ValueError, match=r"got one without pos_embed, patch_embed\.proj\.weight"):
        load_mae_checkpoint(tmp_path / "resnet.safetensors")


def change(weights: dict[str, Tensor], **changes: Tensor | None) -> dict[str, Tensor]:
    changed = {**weights, **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in changed.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks__0__attn__qkv__bias": None}, r"missing: encoder\.blocks\.0\.attn\.qkv\.bias"),
        ({"mask_token": None}, r"missing: mask_token"),
        ({"blocks__0__ls1__gamma": torch.ones(768)}, r"not known: encoder\.blocks\.0\.ls1\.gamma"),
        ({"norm__weight": torch.ones(384)}, r"encoder\.norm\.weight \(384,\) for \(768,\)"),
        (
            {"pos_embed": torch.zeros(1, 10, 768)},  # 3 × 3 patches, the decoder's are 2 × 2
            r"decoder_pos_embed \(1, 5, 16\) for \(1, 10, 16\)",
        ),
        ({"pos_embed": torch.zeros(1, 7, 768)}, r"encoder\.pos_embed \(1, 7, 768\) for"),
        ({"patch_embed__proj__weight": torch.zeros(384, 1, 16, 16)}, r"width .*768.*got width 384"),
    ],
)
def test_another_architecture(
    tmp_path: Path, weights: dict[str, Tensor], changes: dict[str, Any], message: str
) -> None:
    torch.save(change(weights, **changes), tmp_path / "mae.pth")
    with pytest.raises(ValueError, match=rf"mae\.pth .*{message}"):
        load_mae_checkpoint(tmp_path / "mae.pth")


def test_overrides_of_the_architecture_are_checked_against_the_weights(
    tmp_path: Path, weights: dict[str, Tensor]
) -> None:
    torch.save(weights, tmp_path / "mae.pth")
    with pytest.raises(ValueError, match=r"of another architecture .*decoder_blocks\.1\."):
        load_mae_checkpoint(tmp_path / "mae.pth", decoder_depth=2)
