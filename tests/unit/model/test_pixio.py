"""What Pixio adds to MAE: blocks of patches that are masked together, and several class tokens."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from mae_et.model.masking import mask_blocks, mask_patches, patches_of_blocks
from mae_et.weights import export_encoder
from tests.support.models import BuildMAE
from tests.support.tensors import images_for, noise_for


def test_blocks_are_masked_as_a_whole() -> None:
    noise = torch.rand(5, 6, generator=torch.Generator().manual_seed(0))
    visible, masked, mask = mask_blocks(noise, 2 * 4, grid=(4, 6), mask_block=2)
    for image in range(5):
        order = noise[image].argsort().tolist()
        expected = [
            (2 * (block // 3) + row) * 6 + 2 * (block % 3) + column
            for block in order
            for row in range(2)
            for column in range(2)
        ]
        assert visible[image].tolist() == expected[:8]
        assert masked[image].tolist() == expected[8:]
        assert mask[image].nonzero().flatten().tolist() == sorted(expected[8:])


def test_blocks_are_nothing_but_another_mask(small: BuildMAE) -> None:
    """The same mask drawn patch by patch gives the same loss, predictions and gradients."""
    blocks = torch.rand(3, 4, generator=torch.Generator().manual_seed(3))
    results = []
    for mask_block in (2, 1):
        model = small(mask_block=mask_block, image_size=(48, 64))
        model.set_input_size((32, 32))
        noise = blocks[:, :, None] + 1e-4 * torch.arange(4)
        patches = patches_of_blocks(model.grid, 2).flatten().argsort()
        output = model(
            images_for(model), blocks if mask_block == 2 else noise.flatten(1)[:, patches]
        )
        output.loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        results.append((output.loss, output.prediction, output.mask, *gradients))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_training_decodes_whole_blocks(small: BuildMAE) -> None:
    model = small(mask_block=2, decode_ratio=0.5)
    prediction = model.train()(images_for(model), noise_for(model), masked_only=True).prediction
    decoded = ~prediction.isnan().any(-1)
    whole = decoded[:, patches_of_blocks(model.grid, 2)]  # (N, U, 4)
    assert torch.equal(whole.all(-1), whole.any(-1))
    assert whole.all(-1).sum(1).tolist() == [2] * 3  # half of 3 blocks, rounded to the even number
    assert model.eval()(images_for(model), noise_for(model)).prediction.isnan().sum() == 0


def test_class_tokens_open_in_plain_timm(small: BuildMAE, tmp_path: Path) -> None:
    model = small(num_class_tokens=8, mask_block=2, positions="learned").eval()
    with torch.no_grad():
        model.encoder.pos_embed.normal_()  # a position of its own for each class token
    export_encoder(model, tmp_path / "encoder")
    images = images_for(model)
    for pool in ("avg", "token"):
        name = f"local-dir:{tmp_path / 'encoder'}"
        encoder = timm.create_model(name, pretrained=True, global_pool=pool).eval()
        tokens = model.encoder.forward_features(images)
        assert tokens.shape == (3, 8 + 16, 32)
        expected = tokens[:, 8:].mean(1) if pool == "avg" else tokens[:, 0]
        torch.testing.assert_close(encoder(images), expected)
    model(images, noise_for(model)).loss.backward()
    for parameter in (model.encoder.cls_token, model.encoder.reg_token):
        assert (parameter.grad.abs().sum(-1) > 0).all()
    assert (model.encoder.pos_embed.grad[:, :8].abs().sum(-1) > 0).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"mask_block": 3},
            r"model.mask_block must be one of 1, 2, which divide the 4 x 4 patches ",
        ),
        ({"mask_block": 4}, "into two or more, got 4"),
        ({"mask_block": 5}, "into two or more, got 5"),
        ({"mask_block": 2, "mask_ratio": 0.8}, "no visible block of 2 x 2 patches of 4; .* 0.749$"),
        ({"num_class_tokens": 0}, "model.num_class_tokens must be at least 1 or null, got 0"),
        (
            {"num_class_tokens": 8, "encoder_args": {"reg_tokens": 4}},
            "model.num_class_tokens must be null where model.encoder_args has reg_tokens, got 8",
        ),
    ],
)
def test_bad_input(small: BuildMAE, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        small(**changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (40, r"multiple of 16 \(model.mask_block 2 of 8 pixels\) .* got 40; nearest: 32 or 48"),
        ((16, 24), r"got \(16, 24\); nearest: 16 or \(16, 32\)"),
        ((16, 16), "at least 2 mask units of 16 pixels, got"),
    ],
)
def test_sizes_are_whole_blocks(small: BuildMAE, size: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(mask_block=2, image_size=48, mask_ratio=0.5).check_input_size(size)


def test_a_block_of_one_patch_is_a_patch() -> None:
    noise = torch.rand(3, 12, generator=torch.Generator().manual_seed(0))
    for one, other in zip(mask_blocks(noise, 5, (3, 4), 1), mask_patches(noise, 5), strict=True):
        assert torch.equal(one, other)
