"""FLOPs against a count by hand."""

from __future__ import annotations

import pytest
import torch

from mae_et.model.flops import training_flops
from tests.support.models import BuildMAE


def vit_flops(tokens: int, width: int, depth: int) -> int:
    """Forward: 12 width² multiply-adds for a token, and twice the width for a pair of them."""
    return depth * (24 * tokens * width**2 + 4 * tokens**2 * width)


@pytest.mark.parametrize(("size", "patches", "visible"), [(32, 16, 4), (48, 36, 9), (64, 64, 16)])
def test_flops_by_hand(tiny_mae: BuildMAE, size: int, patches: int, visible: int) -> None:
    model = tiny_mae(
        encoder_args={"embed_dim": 48, "depth": 3, "num_heads": 4},
        image_size=64,
        patch_size=8,
        decoder_dim=32,
        decoder_depth=2,
        decoder_num_heads=4,
    )
    masked = patches - visible
    embedding = 2 * visible * 3 * 8 * 8 * 48
    forward = embedding + vit_flops(1 + visible, 48, 3) + 2 * (1 + visible) * 48 * 32
    forward += vit_flops(1 + patches, 32, 2) + 2 * masked * 32 * 3 * 8 * 8
    # The last block asks for visible patches' keys and values, not for their outputs.
    forward -= (1 + visible) * (18 * 32**2 + 4 * (1 + patches) * 32)
    # Backward is twice as much, but for the gradients of the images.
    generator = torch.get_rng_state()
    assert training_flops(model, size) == 3 * forward - embedding
    assert torch.equal(torch.get_rng_state(), generator)
    assert model.input_size == (64, 64)
    assert not any(p.is_meta or p.grad is not None for p in model.parameters())
