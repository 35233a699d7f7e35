"""Pictures of reconstructions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mae_et import MaskedAutoencoder, low_frequency_crop
from mae_et.__main__ import main
from mae_et.reconstruct import reconstruct

from .conftest import tiny


@pytest.mark.parametrize("target", ["norm_pixel", "pixel"])
def test_visible_patches_stay_and_masked_ones_are_predicted(target: str) -> None:
    torch.manual_seed(0)
    model = MaskedAutoencoder(
        "vit_tiny_patch16_224",
        encoder_args={"embed_dim": 16, "depth": 1, "num_heads": 2},
        image_size=16,
        patch_size=4,
        decoder_dim=16,
        decoder_depth=1,
        decoder_num_heads=2,
        target=target,  # type: ignore[arg-type]
    ).eval()
    images, noise = torch.randn(2, 3, 16, 16), torch.rand(2, 16)
    pictures = reconstruct(model, images, 12, noise)
    cropped = low_frequency_crop(images, 12)
    torch.testing.assert_close(pictures.low_frequency, cropped)
    hidden = pictures.masked.isnan()
    assert hidden.float().mean() == 7 / 9  # 2 of 9 patches are visible
    assert torch.equal(pictures.reconstructed[~hidden], cropped[~hidden])
    patches = model.patchify(pictures.reconstructed)
    output = model(cropped, noise[:, :9])
    true = model.patchify(cropped)
    expected = output.prediction
    if target == "norm_pixel":
        expected = expected * (true.var(-1, keepdim=True) + 1e-6).sqrt() + true.mean(
            -1, keepdim=True
        )
    torch.testing.assert_close(patches[output.mask], expected[output.mask])


@pytest.mark.parametrize("checkpoint", ["run", "step"])
def test_command_draws_a_run(clothes: str, tmp_path: Path, checkpoint: str) -> None:
    run, picture = tmp_path / "run", tmp_path / "pictures" / "out.png"
    assert main(["pretrain", *tiny(clothes, run, optim__epochs=2)]) == 0
    path = run if checkpoint == "run" else next(run.glob("checkpoints/step_*"))
    arguments = [f"--checkpoint={path}", f"--out={picture}", "--num_images=3"]
    assert main(["reconstruct", *arguments]) == 0
    pixels = np.asarray(Image.open(picture).convert("L"))
    assert pixels.shape[0] > 500
    assert len(np.unique(pixels)) > 100
