"""mae_et.model.simmim: what is masked stays unseen, and all that can learn does, in any network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from mae_et.config import ModelConfig
from mae_et.curriculum import Size
from mae_et.method_fields import OF_OTHERS
from mae_et.model import SimMIM, create_masked, training_flops

NETWORKS: dict[str, dict[str, Any]] = {
    "resnet": {
        "encoder": "resnet10t",
        "encoder_args": {"channels": [8, 8, 16, 16], "output_stride": 8},
    },
    "convnext": {
        "encoder": "convnext_atto",
        "encoder_args": {"patch_size": 1, "depths": [1, 1, 1, 1], "dims": [8, 8, 8, 16]},
    },
    "swin": {
        "encoder": "swin_tiny_patch4_window7_224",
        "encoder_args": {
            "patch_size": 2,
            "window_size": 4,
            "embed_dim": 8,
            "depths": [2, 1],
            "num_heads": [1, 2],
        },
    },
    "pvt": {
        "encoder": "pvt_v1_tiny",
        "encoder_args": {
            "patch_size": 2,
            "embed_dims": [8, 16],
            "depths": [1, 1],
            "num_heads": [1, 2],
            "mlp_ratios": [2, 2],
            "sr_ratios": [2, 1],
        },
    },
    "cswin": {
        "encoder": "cswin_tiny_224",
        "encoder_args": {
            "embed_dim": 8,
            "depths": [1, 1],
            "num_heads": [2, 2],
            "stripe_widths": [1],
        },
    },
    "vit": {
        "encoder": "vit_tiny_patch16_224",
        "encoder_args": {"embed_dim": 8, "depth": 1, "num_heads": 2},
        "patch_size": 8,
    },
    "own code": {"encoder": f"{__name__}:own_network"},
}
"""Small networks of a stride of 4 or 8 pixels, some of whose tokens are of 2."""

SIZES = (16, 24, 32)


class OwnNetwork(nn.Module):
    """A network of someone's own, whose map has its channels last."""

    num_features = 6

    def __init__(self, in_chans: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 6, 7, stride=4, padding=2)

    def forward_features(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, H / 4, W / 4, 6)."""
        return self.conv(images).permute(0, 2, 3, 1)


def own_network(in_chans: int, num_classes: int) -> nn.Module:
    assert num_classes == 0
    return OwnNetwork(in_chans)


def build(name: str, **fields: Any) -> SimMIM:
    torch.manual_seed(0)
    given: dict[str, Any] = {"image_size": 32, "in_chans": 2, "mask_unit": 8, **NETWORKS[name]}
    model = create_masked({"method": "simmim", **given, **fields}, allow_code=True)
    assert isinstance(model, SimMIM)
    with torch.no_grad():
        for parameter in model.parameters():  # some begin as zeros, which would hide a lot
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module", params=NETWORKS)
def model(request: pytest.FixtureRequest) -> SimMIM:
    return build(request.param)


@pytest.mark.parametrize("size", SIZES)
def test_masked_pixels_stay_unseen(model: SimMIM, size: int) -> None:
    model.eval().set_input_size(size)
    images, others = torch.randn(2, 2, 2, size, size)
    noise = torch.rand(2, model.num_units)
    with torch.no_grad():
        mask = model(images, noise).mask
        masked = model.unpatchify(mask[..., None].expand(-1, -1, 2 * 8 * 8)).bool()
        same = model(torch.where(masked, others, images), noise)
        different = model(torch.where(masked, images, others), noise)
        first = model(images, noise)
    assert mask.float().mean() == pytest.approx(1 - int(0.4 * mask.shape[1]) / mask.shape[1])
    assert torch.equal(first.prediction, same.prediction)
    assert not torch.allclose(first.prediction, different.prediction)
    # The loss by its definition: the mean absolute error of masked pixels.
    predicted = model.unpatchify(first.prediction)
    torch.testing.assert_close(first.loss, (predicted - images).abs()[masked].mean())


@pytest.mark.parametrize("size", SIZES)
def test_all_that_is_trained_gets_gradients(model: SimMIM, size: int) -> None:
    model.train().set_input_size(size)
    model.zero_grad()
    model(torch.randn(4, 2, size, size), masked_only=True).loss.backward()
    found = {name: value.grad for name, value in model.named_parameters() if value.requires_grad}
    assert all(grad is not None for grad in found.values())
    without = [name for name, grad in found.items() if grad is not None and not grad.any()]
    # Where a window or stripe is a single token of a small image, nothing depends on the attention.
    assert [name for name in without if "qkv" not in name and "relative" not in name] == []
    assert found["mask_token"] is not None
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    is_convnext = isinstance(model.encoder, ConvNeXt)
    assert frozen == (
        {"encoder.head.norm.weight", "encoder.head.norm.bias"} if is_convnext else set()
    )


def test_what_is_masked_is_learned_from_what_is_seen() -> None:
    """Pictures of one colour each: whoever predicts without looking is wrong by a half."""
    model = build("swin", mask_unit=4).train()
    model.set_input_size(16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    images = torch.tensor([0.0, 1.0]).repeat(8)[:, None, None, None].expand(16, 2, 16, 16)
    for _ in range(60):
        loss = model(images, masked_only=True).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.2


def test_masks_follow_the_grid_of_each_size() -> None:
    model = build("swin", mask_unit=[8, 4])
    sizes: dict[Size, tuple[int, int]] = {16: (2, 4), 24: (3, 6), (16, 32): (2, 8)}
    for size, grid in sizes.items():
        model.set_input_size(size)
        assert model.grid == grid
        noise = torch.arange(float(model.num_units))[None]
        images = torch.randn(1, 2, *model.input_size)
        assert model(images, noise).mask[0].nonzero()[0] == int(0.4 * model.num_units)


def test_targets_in_cells_and_units() -> None:
    """Predictions are put together from a map whose positions are larger or smaller than units."""
    for fields in ({"mask_unit": 4}, {"mask_unit": 16}, {"target": "hog", "hog": {"cell": 4}}):
        model = build("resnet", **fields)
        with torch.no_grad():
            model.decoder_pred.weight.zero_()
            assert model.decoder_pred.bias is not None
            bias = torch.arange(float(len(model.decoder_pred.bias)))
            model.decoder_pred.bias.copy_(bias)
        output = model(torch.randn(2, 2, 32, 32))
        wide = model.unpatchify(output.prediction, model.target.patch_size)
        side = wide.shape[-1] // 4  # of a position of the map, of which there are 4 × 4
        expected = bias.view(-1, side, side).repeat(1, 4, 4)
        torch.testing.assert_close(wide, expected.expand_as(wide))


def test_cost_is_counted_without_memory() -> None:
    with torch.device("meta"):
        model = build("swin")
    small, full = (training_flops(model, size) for size in (16, 32))
    assert small == training_flops(build("swin"), 16)
    assert full > 3.5 * small


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("resnet", {"mask_unit": 64}, "model.mask_unit must be at most the image size 32, got 64"),
        ("swin", {"mask_unit": 1}, "model.mask_unit must be a multiple of 2 pixels, the network's"),
        ("resnet", {"mask_unit": 12}, "model.mask_unit must be a divisor of model.image_size 32"),
        ("resnet", {"image_size": 30, "mask_unit": 6}, "the stride of resnet10t, .*nearest: 24"),
        # Which leaves the last rows and columns out.
        ("convnext", {"image_size": 28, "mask_unit": 4}, "the stride of convnext_.*nearest: 24"),
        ("own code", {"encoder": "torch.nn:Identity", "encoder_args": {}}, "must give a map"),
        ("resnet", {"encoder": "resnet10x"}, "must be the name of a timm model .* resnet10t"),
        ("resnet", {"encoder_args": {"pretrained": True}}, "must not have pretrained"),
    ],
)
def test_what_does_not_fit_is_one_line(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build(name, **fields)
    assert "\n" not in str(caught.value)


def test_sizes_that_do_not_fit_name_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"mask_unit 4, the network's stride 8.*nearest: 16 or 24"):
        build("resnet", mask_unit=4).set_input_size(20)


@pytest.mark.parametrize("name", sorted(OF_OTHERS["simmim"]))
def test_fields_of_other_methods_are_refused(name: str) -> None:
    others: dict[str, Any] = {"decoder": "cross", "positions": "learned", "decode_ratio": 0.5}
    fields: dict[str, Any] = {name: others.get(name, 3)}
    with pytest.raises(
        ValueError, match=f"model.{name} must be left out .* with model.method simmim"
    ):
        ModelConfig(method="simmim", encoder="resnet10t", **fields)
    with pytest.raises(ValueError, match=r"model.mask_unit must be left out \(null\)"):
        ModelConfig(mask_unit=8)


def test_a_checkpoint_does_not_decide_which_code_runs() -> None:
    with pytest.raises(ValueError, match="got the code os:system"):
        create_masked({"method": "simmim", "encoder": "os:system"})
