"""Decoders: what attends to what, which patches are decoded, and what is scored."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mae_et.model.decoder import CrossBlock
from mae_et.model.targets import hog
from tests.support.models import BuildMAE
from tests.support.tensors import images_for, noise_for


def attention(block: CrossBlock, queries: Tensor, context: Tensor) -> Tensor:
    """Softmax attention of each head, written out."""
    attn, dim = block.attn, queries.shape[-1]
    weights, biases = attn.in_proj_weight.split(dim), attn.in_proj_bias.split(dim)
    inputs = (block.norm1(queries), context, context)
    query, key, value = (
        nn.functional.linear(x, weight, bias).unflatten(-1, (attn.num_heads, -1))
        for x, weight, bias in zip(inputs, weights, biases, strict=True)
    )
    scores = torch.einsum("nqhd,nkhd->nhqk", query, key) / query.shape[-1] ** 0.5
    mixed = torch.einsum("nhqk,nkhd->nqhd", scores.softmax(-1), value).flatten(-2)
    return attn.out_proj(mixed)


def test_cross_block_is_softmax_attention_and_a_perceptron() -> None:
    torch.manual_seed(0)
    block = CrossBlock(16, num_heads=4)
    nn.init.normal_(block.attn.in_proj_bias)
    queries, context = torch.randn(2, 5, 16), torch.randn(2, 3, 16)
    attended = queries + attention(block, queries, context)
    mlp = block.mlp
    hidden = nn.functional.gelu(mlp.fc1(block.norm2(attended)))
    torch.testing.assert_close(block(queries, context), attended + mlp.fc2(hidden))


@pytest.mark.parametrize("decoder", ["self", "cross"])
@pytest.mark.parametrize(("ratio", "num_decoded"), [(0.25, 3), (0.5, 6), (0.01, 1), (1.0, 12)])
def test_training_decodes_and_scores_a_share_of_the_masked_patches(
    small: BuildMAE, decoder: str, ratio: float, num_decoded: int
) -> None:
    model = small(decoder=decoder, decode_ratio=ratio)
    images, noise = images_for(model), noise_for(model)
    output = model(images, noise)
    order = noise.argsort(dim=1)  # four visible patches, then the masked ones by their noise
    decoded = order[:, 4 : 4 + num_decoded]
    first = 0 if decoder == "self" else 4
    assert torch.equal(output.order, order[:, first : 4 + num_decoded])
    rows = torch.arange(3)[:, None]
    errors = (output.prediction - model.patchify(images))[rows, decoded].square()
    torch.testing.assert_close(output.loss, errors.mean())
    is_missing = torch.ones(3, 16, dtype=torch.bool)
    is_missing[rows, output.order] = False
    assert torch.equal(output.prediction.isnan().all(-1), is_missing)


@pytest.mark.parametrize("decoder", ["self", "cross"])
def test_evaluation_decodes_all_masked_patches(small: BuildMAE, decoder: str) -> None:
    whole, part = (small(decoder=decoder, decode_ratio=ratio).eval() for ratio in (1.0, 0.25))
    part.load_state_dict(whole.state_dict())
    images, noise = images_for(whole), noise_for(whole)
    expected, output = whole(images, noise), part(images, noise)
    assert torch.equal(output.loss, expected.loss)
    assert output.prediction[output.mask].isfinite().all()
    assert not torch.equal(part.train()(images, noise).loss, expected.loss)


def test_masked_patches_do_not_see_each_other_by_cross_attention(small: BuildMAE) -> None:
    """So a patch's prediction does not depend on which others are decoded."""
    model = small(decoder="cross", decoder_depth=2, decode_ratio=0.25)
    images, noise = images_for(model), noise_for(model)
    part, whole = model(images, noise), model.eval()(images, noise)
    decoded = ~part.prediction.isnan()
    assert decoded.sum() == 3 * 3 * 8 * 8 * 3
    torch.testing.assert_close(part.prediction[decoded], whole.prediction[decoded])

    model = small(decode_ratio=0.25)  # by self-attention it does
    part, whole = model(images, noise), model.eval()(images, noise)
    decoded = ~part.prediction.isnan() & part.mask[..., None]
    assert (part.prediction[decoded] - whole.prediction[decoded]).abs().max() > 1e-3


@pytest.mark.parametrize("encoder", ["vit_base_patch16_224", "vit_base_patch16_gap_224"])
def test_every_parameter_learns_by_cross_attention(small: BuildMAE, encoder: str) -> None:
    model = small(encoder, decoder="cross", decoder_depth=2, decode_ratio=0.3, positions="learned")
    images, noise = images_for(model), noise_for(model)
    model(images, noise).loss.backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_decoder_compiles_without_graph_breaks(small: BuildMAE) -> None:
    model = small(decoder="cross", decode_ratio=0.5, target="hog", hog={"cell": 4})
    images, noise = images_for(model), noise_for(model)
    expected = model(images, noise).loss
    compiled = torch.compile(model, backend="eager", dynamic=False, fullgraph=True)
    torch.testing.assert_close(compiled(images, noise).loss, expected)


# --- histograms of oriented gradients as the target


@pytest.mark.parametrize(
    ("size", "patch_size", "in_chans", "options"),
    [
        (32, 8, 3, {"cell": 8}),
        (32, 8, 1, {"cell": 4, "bins": 6}),
        ((24, 32), (4, 8), 2, {"cell": 4, "gradient": "central"}),
    ],
)
@pytest.mark.parametrize("input_size", [None, (16, 24)])
def test_loss_of_histograms(
    small: BuildMAE,
    size: int | tuple[int, int],
    patch_size: int | tuple[int, int],
    in_chans: int,
    options: dict[str, Any],
    input_size: tuple[int, int] | None,
) -> None:
    model = small(
        image_size=size, patch_size=patch_size, in_chans=in_chans, target="hog", hog=options
    )
    if input_size:
        model.set_input_size(input_size)
    images, noise = images_for(model), noise_for(model)
    output = model(images, noise)
    histograms = hog(images, **options)
    rows, columns = (pixels // options["cell"] for pixels in model.patch_size)
    errors = []
    for image, patch in output.mask.nonzero().tolist():
        row, column = divmod(patch, model.grid[1])
        top, left = row * rows, column * columns
        cells = histograms[image, :, top : top + rows, left : left + columns]
        predicted = output.prediction[image, patch].reshape(rows, columns, -1)
        errors.append((predicted - cells.permute(1, 2, 0)).square().mean())
    torch.testing.assert_close(output.loss, torch.stack(errors).mean())


# --- runs
