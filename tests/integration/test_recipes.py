"""Every pretraining recipe, shrunken: it goes through its stages and hands on an encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from mae_et.__main__ import main
from mae_et.config.parser import recipe_names
from mae_et.runs import Run

DECODER = [
    "--model.decoder_dim=16",
    "--model.decoder_depth=1",
    "--model.decoder_num_heads=2",
]

SHRUNK = [
    "--data.eval_images=4",
    "--data.num_workers=0",
    "--optim.epochs=1",
    "--optim.warmup_epochs=0.25",
    "--optim.batch_size=8",
    "--optim.micro_batch_size=4",
    "--run.mixed_precision=no",
    "--run.log_every=1",
    "--run.eval_every=null",
    "--run.tracker=none",
    "--run.progress=false",
]
"""A small model on 80 images; input sizes, patches, masks and target are the recipe's."""

ENCODERS = {
    "hiera_b": "{embed_dim: 8, stages: [1, 1, 1, 1]}",
    "etpp_hiera_b": "{embed_dim: 8, stages: [1, 1, 1, 1], abs_win_pos_embed: true}",
}
"""Small encoders of other kinds than ViT."""

SIMMIM = {
    "swin_b": "{embed_dim: 8, depths: [1, 1, 1, 1], num_heads: [1, 1, 1, 1], window_size: 6}",
    "convnext_t": "{dims: [8, 8, 16, 16], depths: [1, 1, 1, 1]}",
    "resnet50": "{layers: [1, 1, 1, 1], channels: [8, 8, 16, 16]}",
}
ENCODERS |= {f"{start}simmim_{name}": SIMMIM[name] for name in SIMMIM for start in ("", "etpp_")}

SIZES = {
    "et": {160: 6, 192: 2, 224: 2},
    "et_vit_h_14": {154: 6, 196: 2, 224: 2},
    "etpp": {96: 11, 160: 8, 224: 4},
    "fastmim_vit_b_16": {128: 10},
    "fastmim_p_vit_b_16": {128: 3, 160: 4, 192: 3},
    "mae_vit_b_16": {224: 10},
    "hiera_b": {224: 10},
    "simmim_swin_b": {192: 10},
    "simmim_convnext_t": {224: 10},
    "simmim_resnet50": {224: 10},
    "etpp_simmim_swin_b": {96: 8, 128: 9, 192: 4},
    "etpp_simmim_convnext_t": {160: 12, 224: 4},
    "efficient_vit_b_16": {224: 10},
    "pixio_vit_b_16": {256: 10},
    "etpp_pixio_vit_b_16": {192: 11, 256: 4},
}
"""Input size -> steps of ten, or of what costs as much."""


@pytest.mark.parametrize("name", sorted(set(recipe_names("mae_et")) - {"demo"}))
def test_recipe_runs_through_its_stages(clothes: str, tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    encoder_args = ENCODERS.get(name, "{embed_dim: 16, depth: 1, num_heads: 2}")
    arguments = [f"--data.path={clothes}", f"--run.output_dir={run}", *SHRUNK]
    arguments += [f"--model.encoder_args={encoder_args}", *([] if "simmim" in name else DECODER)]
    assert main(["pretrain", f"--config={name}", *arguments]) == 0
    plus = Run(run).read_config()["curriculum"]["name"] == "efficienttrain_plus"
    curriculum = "etpp" if plus else "et"
    sizes = [line["size"] for line in Run(run).read_metrics() if "loss" in line]
    assert {size: sizes.count(size) for size in sizes} == SIZES.get(name, SIZES[curriculum])
    full_size = Run(run).read_config()["model"]["image_size"]
    assert sizes[-1] == full_size
    encoder = timm.create_model(f"local-dir:{run / 'encoder'}", pretrained=True)
    images = torch.zeros(1, 3, full_size, full_size)
    assert encoder(images).shape == (1, encoder.num_features)
