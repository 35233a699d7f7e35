"""Folders of transformers, opened as masked autoencoders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mae_et import load_mae_checkpoint
from mae_et.weights.to_transformers import (
    image_processor,
    save_transformers,
    to_vit_mae,
)
from tests.support.models import PROCESSOR, BuildMAE
from tests.support.tensors import seeded

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("layout", ["saved by this version", "names of its modules", ".bin"])
def test_mae_of_transformers(tmp_path: Path, layout: str) -> None:
    config = transformers.ViTMAEConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=96,
        image_size=32,
        patch_size=8,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=64,
        norm_pix_loss=True,
        mask_ratio=0.5,
    )
    model = transformers.ViTMAEForPreTraining(config)
    assert config.layer_norm_eps == 1e-12
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path)
    if layout != "saved by this version":
        (tmp_path / "model.safetensors").unlink()
        if layout == ".bin":
            torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
        else:
            save_file(model.state_dict(), tmp_path / "model.safetensors")
    images, noise = seeded(3, 3, 32, 32), seeded(3, 16, uniform=True)
    with torch.no_grad():
        theirs, ours = (
            model.eval()(images, noise=noise),
            load_mae_checkpoint(tmp_path)(images, noise),
        )
    torch.testing.assert_close(ours.prediction, theirs.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(ours.loss, theirs.loss, atol=0, rtol=1e-4)
    assert torch.equal(ours.mask, theirs.mask.bool())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act must be gelu, got relu"),
        ({"layer_norm_eps": 1e-3}, "layer_norm_eps must be at most 1e-06, got 0.001"),
        ({"qkv_bias": False}, "qkv_bias must be true, got False"),
        ({"decoder_intermediate_size": 48}, "must be 4 x decoder_hidden_size 16, got 48"),
        ({"num_attention_heads": 4}, None),  # fits, but is another model: shapes do not tell
        ({"num_hidden_layers": 3}, "missing: encoder.blocks.2"),
        ({"model_type": "vit"}, "must be a ViTMAE if it is a folder of transformers"),
    ],
)
def test_folders_that_are_no_mae_of_ours(
    make_mae: BuildMAE, tmp_path: Path, change: dict[str, Any], message: str | None
) -> None:
    save_transformers(to_vit_mae(make_mae()), image_processor(**PROCESSOR), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    if message is None:
        assert load_mae_checkpoint(tmp_path).encoder.blocks[0].attn.num_heads == 4
    else:
        with pytest.raises(ValueError, match=message):
            load_mae_checkpoint(tmp_path)
