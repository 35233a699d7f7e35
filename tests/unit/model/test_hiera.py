"""The masked autoencoder over Hiera: equal to a dense reference at every size; what it refuses."""

from typing import Any

import pytest
import torch
from timm.models.hiera import Hiera
from torch import Tensor

from mae_et.model.hiera import HieraAutoencoder
from tests.support.dense_hiera import dense_hiera
from tests.support.models import randomized
from tests.support.tensors import images_for, noise_for

TINY: dict[str, Any] = {"embed_dim": 8, "stages": (1, 2, 2, 1)}
SMALL_UNITS = {
    "embed_dim": 8,
    "stages": (1, 2, 1),
    "q_pool": 2,
    "mask_unit_size": (4, 4),
    "mask_unit_attn": (True, False, False),
    "patch_stride": (2, 2),
    "patch_kernel": (3, 3),
    "patch_padding": (1, 1),
}
SPLIT = {**SMALL_UNITS, "abs_win_pos_embed": True, "global_pos_size": (3, 3)}


def tiny_hiera(encoder_args: dict[str, Any] = SMALL_UNITS, **changes: Any) -> HieraAutoencoder:
    """A model of units of 8 pixels, in images of 16 × 24, with weights drawn from seed 0."""
    defaults = {
        "image_size": (16, 24),
        "decoder_dim": 16,
        "decoder_depth": 2,
        "decoder_num_heads": 2,
        "mask_ratio": 0.6,
        "positions": "learned",
    }
    torch.manual_seed(0)
    return HieraAutoencoder("hiera_tiny_224", encoder_args=encoder_args, **defaults | changes)


def seen_units(model: HieraAutoencoder, mask: Tensor) -> Tensor:
    block = model.mask_block
    return ~mask.view(len(mask), *model.grid)[:, ::block, ::block]


@pytest.mark.parametrize(
    ("encoder_args", "image_size", "size"),
    [
        (TINY, (64, 96), (64, 96)),  # the published layout: units of 32 pixels, four stages
        (SMALL_UNITS, (16, 24), (16, 24)),
        (SMALL_UNITS, (24, 24), (16, 24)),
        (SPLIT, (16, 24), (16, 24)),
        (SPLIT, (24, 32), (24, 16)),
    ],
)
def test_equals_a_dense_reference(encoder_args: dict[str, Any], image_size: Any, size: Any) -> None:
    """Loss, predictions and gradients are those of all units under masks."""
    model = randomized(tiny_hiera(encoder_args, image_size=image_size))
    model.set_input_size(size)
    images = images_for(model)
    output = model(images, noise_for(model))
    output.loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    loss, predictions = dense_hiera(model, images, seen_units(model, output.mask))
    loss.backward()
    torch.testing.assert_close(output.loss, loss, rtol=0, atol=1e-5)
    torch.testing.assert_close(output.prediction, predictions, rtol=0, atol=1e-5)
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, name
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=1e-5, msg=name)


def test_cost_follows_the_visible_units() -> None:
    """The blocks see the tokens of visible units alone; nothing is computed and thrown away."""
    model = tiny_hiera()
    seen = []
    for block in model.encoder.blocks:
        block.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[1]))
    for size in ((16, 24), (16, 16)):
        model.set_input_size(size)
        seen.clear()
        model(images_for(model), noise_for(model))
        units = model.num_visible // 4
        assert seen == [16 * units, 16 * units, 4 * units, 4 * units]


@pytest.mark.parametrize("encoder_args", [SMALL_UNITS, SPLIT])
def test_all_units_visible_is_timm(encoder_args: dict[str, Any]) -> None:
    """Timm's own pass with its `mask` gives the maps that are fused, last pooling aside."""
    model = randomized(tiny_hiera(encoder_args))
    images, noise = images_for(model), noise_for(model)
    units = noise.argsort(1)[:, :2].sort(1).values
    keep = torch.zeros_like(noise, dtype=torch.bool).scatter(1, units, True)
    grid = (2, 3)
    maps = model.units(model.encoder, images, units, model._positions()[0], grid)
    pools_less = Hiera((16, 24), num_classes=0, **{**encoder_args, "q_pool": 1})
    pools_less.load_state_dict(model.encoder.state_dict())
    _, expected = pools_less.forward_features(images, mask=keep, return_intermediates=True)
    for one, other in zip(maps, [expected[0], expected[-1]], strict=True):
        torch.testing.assert_close(one, other)
    assert [block.attn.q_stride for block in model.encoder.blocks] == [1, 4, 1, 4]


@pytest.mark.parametrize("encoder_args", [SMALL_UNITS, SPLIT])
def test_parameters_stay_when_the_size_changes(encoder_args: dict[str, Any]) -> None:
    model = tiny_hiera(encoder_args, image_size=24)
    before = {name: (id(p), p.shape) for name, p in model.named_parameters()}
    for size in (16, (8, 24), 24):
        model.set_input_size(size)
        model.zero_grad()
        model(images_for(model), noise_for(model)).loss.backward()
        assert {name: (id(p), p.shape) for name, p in model.named_parameters()} == before
        for table in (model.encoder.pos_embed, model.decoder_pos_embed):
            gradient = table.grad
            assert gradient is not None
            assert gradient.abs().amax(1).min() > 0  # in all of the full grid


@pytest.mark.parametrize(
    ("encoder", "encoder_args", "changes", "message"),
    [
        (
            "hiera_tiny_224",
            {},
            {"image_size": 200},
            r"mask unit, \[32, 32\] pixels",
        ),
        ("hiera_tiny_224", {}, {"patch_size": 16}, "model.patch_size must be null with"),
        ("hiera_tiny_224", {}, {"mask_block": 2}, "model.mask_block must be 1 with"),
        ("hiera_tiny_224", {}, {"num_class_tokens": 8}, "num_class_tokens must be null .* got 8"),
        ("vit_tiny_patch16_224", {}, {}, "model.encoder must be a Hiera of timm .* got 'vit_tiny_"),
        ("hiera_bas_224", {}, {}, "must be the name of a timm Hiera.*; nearest: hiera_base_224"),
        (
            "hiera_tiny_224",
            {"mask_unit_size": (4, 4)},
            {},
            r"unit_size must be \[8, 8\], what",
        ),
        (
            "hiera_tiny_224",
            {"mask_unit_attn": (True,) * 4},
            {},
            "unit_attn must be false from",
        ),
        (
            "hiera_tiny_224",
            {"abs_win_pos_embed": True},
            {"positions": "sincos"},
            "model.positions must be learned for an encoder whose positions are split",
        ),
        ("hiera_tiny_224", {}, {"image_size": 64, "mask_ratio": 0.8}, "no visible block of 2 x 2"),
    ],
)
def test_bad_input(
    encoder: str, encoder_args: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    defaults: dict[str, Any] = {"image_size": 64, "positions": "learned"}
    with torch.device("meta"), pytest.raises(ValueError, match=message) as error:
        HieraAutoencoder(encoder, encoder_args=encoder_args, **defaults | changes)
    assert "\n" not in str(error.value)
