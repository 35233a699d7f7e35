"""Parity with two other masked autoencoders: the dense one next door, and transformers'.

Same weights, images and noise have to give the same loss, predictions and gradients, at full size
and, with resampled positions, at smaller ones.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mae_et import MaskedAutoencoder, load_mae_checkpoint
from tests.support.models import BuildMAE
from tests.support.reference_mae import ReferenceMAE

SMALL = {"dim": 32, "depth": 2, "num_heads": 2}
SMALL |= {"decoder_dim": 16, "decoder_depth": 2, "decoder_num_heads": 4}


def seeded(*shape: int, uniform: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand if uniform else torch.randn)(*shape, generator=generator)


def make_reference(**arguments: Any) -> ReferenceMAE:
    torch.manual_seed(0)
    return ReferenceMAE(**{**SMALL, "image_size": (32, 32), "patch_size": (8, 8), **arguments})


@pytest.fixture
def like_reference(tiny_mae: BuildMAE) -> BuildMAE:
    """`tiny_mae` as wide and deep as the references."""
    sizes = {
        "encoder_args": {"embed_dim": 32, "depth": 2, "num_heads": 2},
        "decoder_depth": 2,
        "decoder_num_heads": 4,
    }
    return partial(tiny_mae, "vit_base_patch16_224", **sizes)


@pytest.fixture
def with_weights_of(like_reference: BuildMAE) -> Callable[..., MaskedAutoencoder]:
    def build(reference: ReferenceMAE, **changes: Any) -> MaskedAutoencoder:
        model = like_reference(target="norm_pixel" if reference.norm_pixel else "pixel", **changes)
        weights = reference.state_dict()
        model.load_state_dict({own_name(name): value for name, value in weights.items()})
        return model

    return build


def own_name(name: str) -> str:
    return name if name.startswith(("decoder_", "mask_token")) else f"encoder.{name}"


CASES = [
    {"image_size": (32, 32), "patch_size": (8, 8), "sizes": [(32, 32), (24, 24), (16, 16)]},
    {"image_size": (24, 40), "patch_size": (4, 8), "sizes": [(24, 40), (16, 32)], "in_chans": 1},
    {"image_size": (28, 28), "patch_size": (4, 4), "sizes": [(20, 20)], "in_chans": 5},
    {"image_size": (32, 32), "patch_size": (8, 8), "sizes": [(32, 32)], "mask_ratio": 0.4},
]


@pytest.mark.parametrize("norm_pixel", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_parity_with_the_dense_reference(
    with_weights_of: Callable[..., MaskedAutoencoder], case: dict[str, Any], norm_pixel: bool
) -> None:
    arguments = {name: value for name, value in case.items() if name != "sizes"}
    reference = make_reference(norm_pixel=norm_pixel, **arguments)
    model = with_weights_of(reference, **arguments)
    patch_size, in_chans = arguments["patch_size"], arguments.get("in_chans", 3)
    for height, width in case["sizes"]:
        images = seeded(3, in_chans, height, width) * 2 + 0.5
        num_patches = height // patch_size[0] * (width // patch_size[1])
        noise = seeded(3, num_patches, uniform=True)
        reference.zero_grad()
        model.zero_grad()
        loss, prediction, mask = reference(images, noise)
        loss.backward()
        model.set_input_size((height, width))
        output = model(images, noise)
        output.loss.backward()

        torch.testing.assert_close(output.loss, loss, atol=0, rtol=1e-5)
        torch.testing.assert_close(output.prediction, prediction, atol=2e-5, rtol=0)
        assert torch.equal(output.mask, mask.bool())
        own = dict(model.named_parameters())
        compared = 0
        for name, parameter in reference.named_parameters():
            if parameter.grad is None:
                assert own[own_name(name)].grad is None  # the position tables
                continue
            gradient = own[own_name(name)].grad
            assert parameter.grad.abs().max() > 1e-5, f"{name}: nothing to compare"
            torch.testing.assert_close(
                gradient, parameter.grad, atol=2e-5, rtol=1e-4, msg=partial("{}: {}".format, name)
            )
            compared += 1
        assert compared == len(own) - 2


def test_predictions_agree_in_float64(with_weights_of: Callable[..., MaskedAutoencoder]) -> None:
    reference = make_reference()
    model = with_weights_of(reference, image_size=32, patch_size=8).double()
    reference.double()
    images, noise = seeded(3, 3, 32, 32).double(), seeded(3, 16, uniform=True)
    _, prediction, _ = reference(images, noise)
    output = model(images, noise)
    torch.testing.assert_close(output.prediction, prediction, atol=1e-12, rtol=0)


def test_own_tables_are_the_references(
    with_weights_of: Callable[..., MaskedAutoencoder], like_reference: BuildMAE
) -> None:
    reference = make_reference(image_size=(24, 40), patch_size=(4, 8))
    model = with_weights_of(reference, image_size=(24, 40), patch_size=(4, 8))
    fresh = like_reference(image_size=(24, 40), patch_size=(4, 8))
    torch.testing.assert_close(fresh.encoder.pos_embed, model.encoder.pos_embed)
    torch.testing.assert_close(fresh.decoder_pos_embed, model.decoder_pos_embed)


@pytest.mark.parametrize("layout", ["under 'model'", "bare"])
@pytest.mark.parametrize("depth", [1, 2])
def test_loading_the_reference_layout(tmp_path: Path, layout: str, depth: int) -> None:
    reference = make_reference(
        image_size=(64, 64),
        patch_size=(16, 16),
        dim=768,
        depth=depth,
        num_heads=12,
        decoder_dim=64,
        decoder_depth=1,
        decoder_num_heads=16,
    )
    weights = reference.state_dict()
    torch.save({"model": weights} if layout != "bare" else weights, tmp_path / "mae.pth")
    model = load_mae_checkpoint(tmp_path / "mae.pth")
    assert model.full_size == 64
    assert model.patch_size == (16, 16)
    assert len(model.encoder.blocks) == depth

    noise = seeded(2, 16, uniform=True)
    images = seeded(2, 3, 64, 64)
    loss, prediction, _ = reference(images, noise)
    output = model(images, noise)
    torch.testing.assert_close(output.loss, loss, atol=0, rtol=1e-5)
    torch.testing.assert_close(output.prediction, prediction, atol=1e-4, rtol=0)

    model.set_input_size(48)
    images, noise = images[..., :48, :48], noise[:, :9]
    torch.testing.assert_close(model(images, noise).loss, reference(images, noise)[0])


def test_overrides_of_a_loaded_checkpoint(tmp_path: Path) -> None:
    reference = make_reference(
        image_size=(32, 32),
        patch_size=(16, 16),
        dim=768,
        depth=1,
        num_heads=12,
        decoder_dim=32,
        decoder_depth=1,
        decoder_num_heads=16,
        mask_ratio=0.5,
        norm_pixel=False,
    )
    torch.save(reference.state_dict(), tmp_path / "mae.pth")
    model = load_mae_checkpoint(tmp_path / "mae.pth", mask_ratio=0.5, target="pixel")
    images, noise = seeded(2, 3, 32, 32), seeded(2, 4, uniform=True)
    torch.testing.assert_close(model(images, noise).loss, reference(images, noise)[0])


@pytest.mark.parametrize("norm_pixel", [True, False])
@pytest.mark.parametrize("patch_size", [8, 4])
def test_parity_with_transformers(
    like_reference: BuildMAE, norm_pixel: bool, patch_size: int
) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    other = transformers.ViTMAEForPreTraining(
        transformers.ViTMAEConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=128,
            layer_norm_eps=1e-6,
            initializer_range=0.2,
            image_size=32,
            patch_size=patch_size,
            decoder_hidden_size=16,
            decoder_num_hidden_layers=2,
            decoder_num_attention_heads=4,
            decoder_intermediate_size=64,
            norm_pix_loss=norm_pixel,
        )
    ).eval()
    target = "norm_pixel" if norm_pixel else "pixel"
    model = like_reference(image_size=32, patch_size=patch_size, target=target)
    for parameter in other.parameters():  # biases and tokens that are not zero, either
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape)
    # A fresh transformers model has no tables yet; downloaded weights bring them.
    other.vit.embeddings.position_embeddings.data.copy_(model.encoder.pos_embed)
    other.decoder.decoder_pos_embed.data.copy_(model.decoder_pos_embed)
    model.load_state_dict(from_transformers(other.state_dict()))

    images, noise = seeded(3, 3, 32, 32), seeded(3, (32 // patch_size) ** 2, uniform=True)
    with torch.no_grad():
        expected, output = other(images, noise=noise), model(images, noise)
    torch.testing.assert_close(output.loss, expected.loss, atol=0, rtol=1e-5)
    torch.testing.assert_close(output.prediction, expected.logits, atol=5e-5, rtol=0)
    assert torch.equal(output.mask, expected.mask.bool())


def from_transformers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of transformers and separate q, k, v -> the project's."""
    weights = {name_since_5_11(name): value for name, value in weights.items()}
    renamed = {}
    for name, value in weights.items():
        if re.search(r"attention\.[kv]_proj", name):
            continue
        if "attention.q_proj" in name:
            value = torch.cat([weights[name.replace("q_proj", f"{p}_proj")] for p in "qkv"])
        for pattern, replacement in (
            (r"attention\.q_proj", "attn.qkv"),
            (r"attention\.o_proj", "attn.proj"),
            (r"layernorm_before", "norm1"),
            (r"layernorm_after", "norm2"),
            (r"^vit\.embeddings\.patch_embeddings\.projection", "encoder.patch_embed.proj"),
            (r"^vit\.embeddings\.position_embeddings", "encoder.pos_embed"),
            (r"^vit\.embeddings\.cls_token", "encoder.cls_token"),
            (r"^vit\.layernorm", "encoder.norm"),
            (r"^vit\.layers\.", "encoder.blocks."),
            (r"^decoder\.decoder_layers\.", "decoder_blocks."),
            (r"^decoder\.", ""),
        ):
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def name_since_5_11(name: str) -> str:
    """The name that transformers gives to a weight since version 5.11."""
    for pattern, replacement in (
        (r"^vit\.encoder\.layer\.", "vit.layers."),
        (r"\.attention\.attention\.(query|key|value)\.", r".attention.\1_proj."),
        (r"\.attention\.output\.dense\.", ".attention.o_proj."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"\.output\.dense\.", ".mlp.fc2."),
    ):
        name = re.sub(pattern, replacement, name)
    for word in ("query", "key", "value"):
        name = name.replace(f"{word}_proj", f"{word[0]}_proj")
    return name
