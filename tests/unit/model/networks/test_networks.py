"""CSWin and PVT: attention in loops, the originals' tensors and cost, and timm's interface."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from finetune.config import ClassifierConfig
from finetune.model import build_classifier
from finetune.model.backbone import create_model
from mae_et.model.networks.cswin_blocks import CSWinBlock
from mae_et.model.networks.pvt_blocks import ReducedAttention
from tests.support.models import randomized

from .naive import Shapes, cswin_attention, cswin_tensors, pvt_attention, pvt_tensors

CSWIN: dict[str, Any] = {"embed_dim": 8, "depths": (1, 2, 2, 1), "num_heads": (2, 2, 4, 4)}
PVT: dict[str, Any] = {
    "embed_dims": (8, 8, 16, 16),
    "depths": (1, 2, 1, 2),
    "num_heads": (1, 1, 2, 2),
    "mlp_ratios": (2, 2, 2, 2),
}
TINY = {"cswin_tiny_224": CSWIN, "pvt_v1_tiny": PVT}
networks = pytest.mark.parametrize("name", TINY)


def create(name: str, **arguments: Any) -> Any:
    """A network of a few channels, with weights that hide nothing."""
    return randomized(timm.create_model(name, **TINY[name], **arguments))


def images(*sides: int, chans: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, chans, *(sides if len(sides) == 2 else sides * 2), generator=generator)


@pytest.mark.parametrize(
    ("grid", "stripe_width", "widths"),
    [
        ((8, 8), 1, (1, 1)),
        ((8, 6), 2, (2, 2)),
        ((6, 10), None, (5, 3)),
        ((14, 14), None, (7, 7)),  # as the original has it at 224 pixels
        ((7, 5), 2, (2, 2)),  # the last stripes are of 1 token
        ((7, 5), None, (3, 4)),
        ((4, 4), 9, (4, 4)),  # wider than the map
        ((5, 6), 0, None),
    ],
)
def test_attention_in_stripes(
    grid: tuple[int, int], stripe_width: int | None, widths: tuple[int, int] | None
) -> None:
    block = randomized(CSWinBlock(8, 4, stripe_width))
    tokens = torch.randn(2, grid[0] * grid[1], 8, generator=torch.Generator().manual_seed(3))
    after = tokens + cswin_attention(block, tokens, grid, widths)
    torch.testing.assert_close(
        block(tokens, grid), after + block.mlp(block.norm2(after)), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(
    ("grid", "sr_ratio", "num_prefix"), [((8, 8), 4, 0), ((4, 6), 2, 0), ((3, 2), 1, 1)]
)
def test_attention_to_a_smaller_map(grid: tuple[int, int], sr_ratio: int, num_prefix: int) -> None:
    attention = randomized(ReducedAttention(8, 2, sr_ratio))
    tokens = torch.randn(2, num_prefix + grid[0] * grid[1], 8)
    torch.testing.assert_close(
        attention(tokens, grid), pvt_attention(attention, tokens, grid), rtol=0, atol=1e-5
    )


DEEP = (2, 4, 32, 2)


@pytest.mark.parametrize(
    ("name", "tensors", "millions", "giga"),
    [
        ("cswin_tiny_224", cswin_tensors(64, (1, 2, 21, 1)), 22.3, 4.3),  # published: 23, 4.3
        ("cswin_small_224", cswin_tensors(64, DEEP), 34.6, 6.8),  # 35, 6.9
        ("cswin_base_224", cswin_tensors(96, DEEP), 77.4, 15.0),  # 78, 15.0
        ("cswin_base_384", cswin_tensors(96, DEEP), 77.4, 47.0),  # 78, 47.0
        ("cswin_large_224", cswin_tensors(144, DEEP), 173.3, 33.1),  # 173, 31.5
        ("pvt_v1_tiny", pvt_tensors((2, 2, 2, 2)), 13.2, 1.9),  # as published, and so below
        ("pvt_v1_small", pvt_tensors((3, 4, 6, 3)), 24.5, 3.8),
        ("pvt_v1_medium", pvt_tensors((3, 4, 18, 3)), 44.2, 6.7),
        ("pvt_v1_large", pvt_tensors((3, 8, 27, 3)), 61.4, 9.8),
    ],
)
def test_tensors_and_cost_of_the_originals(
    name: str, tensors: Shapes, millions: float, giga: float
) -> None:
    with torch.device("meta"):
        network = timm.create_model(name)
        batch = torch.empty(1, *network.pretrained_cfg["input_size"])
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == tensors
    assert f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f}" == f"{millions}"
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        network(batch)
    assert f"{counter.get_total_flops() / 2e9:.1f}" == f"{giga:.1f}"  # of multiply-adds


@networks
def test_epsilons_of_the_originals(name: str) -> None:
    """No tensor tells them; PVT's blocks and last norm have another than its maps."""
    network = timm.create_model(name, **TINY[name])
    norms = {key: one.eps for key, one in network.named_modules() if isinstance(one, nn.LayerNorm)}
    small = {key for key, eps in norms.items() if eps == 1e-6}
    assert set(norms.values()) <= {1e-5, 1e-6}
    of_blocks = {key for key in norms if key.endswith((".norm1", ".norm2")) or key == "norm"}
    assert small == (of_blocks if name.startswith("pvt") else set())


@pytest.mark.parametrize("size", [96, 128, 160, 192, 224])
@networks
def test_sizes_of_the_curriculum(name: str, size: int) -> None:
    """The full-size parameters are trained at every size, without another network."""
    torch.manual_seed(0)
    sized = create_model(
        name, image_size=224, in_chans=3, num_classes=5, model_args=TINY[name]
    ).train()
    sized.set_input_size(size)
    assert not any(sized._twins.values())
    F.cross_entropy(sized(images(size)), torch.tensor([0, 1])).backward()
    for parameter_name, parameter in sized.model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_stripes_at_the_sizes_of_the_curriculum() -> None:
    blocks = [CSWinBlock(8, 2, width) for width in (1, 2, None, 0)]
    widths = {
        size: [
            block.stripes((size // stride,) * 2)[0][1]
            for block, stride in zip(blocks, (4, 8, 16, 32), strict=True)
        ]
        for size in (96, 128, 160, 192, 224, 384)
    }
    assert widths == {size: [1, 2, size // 32, size // 32] for size in widths}


def test_positions_of_pvt_are_those_of_the_full_size() -> None:
    """Resampled bicubically in every pass, with the class token's as it is."""
    network = create("pvt_v1_tiny", num_classes=5)
    small = timm.create_model("pvt_v1_tiny", **PVT, num_classes=5, img_size=(96, 128)).eval()
    weights = network.state_dict()
    for stage, (full, stride) in enumerate(zip((56, 28, 14, 7), (4, 8, 16, 32), strict=True), 1):
        table = weights[f"pos_embed{stage}"]
        first, rest = table[:, : stage // 4], table[:, stage // 4 :]
        maps = rest.unflatten(1, (full, full)).permute(0, 3, 1, 2)
        maps = F.interpolate(maps, (96 // stride, 128 // stride), mode="bicubic")
        weights[f"pos_embed{stage}"] = torch.cat([first, maps.flatten(2).mT], dim=1)
    small.load_state_dict(weights)
    torch.testing.assert_close(network(images(96, 128)), small(images(96, 128)), rtol=0, atol=1e-5)


@networks
def test_features_only(name: str) -> None:
    plain = create(name)
    channels = [8, 16, 32, 64] if name.startswith("cswin") else [8, 8, 16, 16]
    extractor = timm.create_model(name, features_only=True, **TINY[name]).eval()
    assert extractor.feature_info.channels() == channels
    assert extractor.feature_info.reduction() == [4, 8, 16, 32]
    extractor.model.load_state_dict(
        {k: v for k, v in plain.state_dict().items() if k in extractor.model.state_dict()}
    )
    maps = extractor(images(64, 96))
    assert [tuple(one.shape[1:]) for one in maps] == [
        (dim, 64 // stride, 96 // stride)
        for dim, stride in zip(channels, (4, 8, 16, 32), strict=True)
    ]
    final, normed = plain.forward_intermediates(images(64, 96), indices=[3], norm=True)
    torch.testing.assert_close(final[:, -6:].mT.unflatten(2, (2, 3)), normed[0])
    torch.testing.assert_close(plain.norm(maps[3].flatten(2).mT), final[:, -6:])
    for indices in ([0, 2], [1]):
        some = timm.create_model(name, features_only=True, out_indices=indices, **TINY[name])
        names = some.model.state_dict().keys()
        assert not any(key.startswith(("norm", "head", "cls_token")) for key in names)
        some.model.load_state_dict({key: plain.state_dict()[key] for key in names})
        for one, number in zip(some.eval()(images(64, 96)), indices, strict=True):
            torch.testing.assert_close(one, maps[number])
        assert some.model.num_features == channels[max(indices)]
    with pytest.raises(ValueError, match="output_fmt must be NCHW, got NLC"):
        plain.forward_intermediates(images(64), output_fmt="NLC")


@networks
def test_gradient_checkpointing(name: str) -> None:
    """Equal gradients, for blocks that run once more in the backward pass."""
    network = create(name, num_classes=3).train()
    runs: list[str] = []
    for stage in range(4):
        for block in network.blocks(stage):
            block.register_forward_pre_hook(lambda *_: runs.append(name))
    gradients = []
    for enable in (False, True):
        network.set_grad_checkpointing(enable)
        network.zero_grad()
        runs.clear()
        network(images(64)).square().sum().backward()
        assert len(runs) == (12 if enable else 6)
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@networks
def test_head_and_pooling(name: str) -> None:
    network = create(name, in_chans=1, num_classes=3)
    features = network.forward_head(network.forward_features(images(64, chans=1)), pre_logits=True)
    assert features.shape == (2, network.num_features)
    torch.testing.assert_close(network.get_classifier()(features), network(images(64, chans=1)))
    network.double().reset_classifier(7)
    assert network(images(64, chans=1).double()).shape == (2, 7)
    network.float()
    network.reset_classifier(0, "")
    tokens = network(images(64, chans=1))
    num_prefix = int(name.startswith("pvt"))
    assert tokens.shape == (2, num_prefix + 4, network.num_features)
    network.reset_classifier(0, "avg")
    torch.testing.assert_close(network(images(64, chans=1)), tokens[:, num_prefix:].mean(1))
    if num_prefix:
        network.reset_classifier(0, "token")
        torch.testing.assert_close(network(images(64, chans=1)), tokens[:, 0])
    with pytest.raises(ValueError, match=r"must be one of .*'avg', '', got 'max'"):
        network.reset_classifier(0, "max")


@networks
def test_stochastic_depth_grows(name: str) -> None:
    network = create(name, drop_path_rate=0.5)
    rates = [block.drop_path.drop_prob for stage in range(4) for block in network.blocks(stage)]
    assert rates == pytest.approx([0.5 * number / 5 for number in range(6)])


@networks
def test_layers_of_layer_decay(name: str) -> None:
    """The stem, then block by block with what embeds its map, then the head."""
    network = create(name)
    layers = group_parameters(network, network.group_matcher(), reverse=True)
    blocks = [
        (stage, n) for stage, depth in enumerate(TINY[name]["depths"], 1) for n in range(depth)
    ]
    for key, number in layers.items():
        first, _, rest = key.partition(".")
        stage = int("".join(filter(str.isdigit, first.partition("_")[0])) or 0)
        if key.startswith(("stage1_conv_embed", "patch_embed1", "pos_embed1")):
            expected = 0
        elif first.startswith(("patch_embed", "pos_embed")):
            expected = 1 + blocks.index((int(first[-1]), 0))
        elif first.startswith("merge"):
            expected = 1 + blocks.index((stage + 1, 0))
        elif first == "cls_token":
            expected = 1 + blocks.index((4, 0))
        elif first.startswith(("stage", "block")):
            expected = 1 + blocks.index((stage, int(rest.partition(".")[0])))
        else:
            expected = {"norm": 6, "head": 7}[first]
        assert number == expected, key
    coarse = group_parameters(network, network.group_matcher(coarse=True), reverse=True)
    assert set(coarse.values()) == set(range(6))
    assert coarse["head.bias"] == 5
    groups = param_groups_layer_decay(
        network, 0.05, no_weight_decay_list=network.no_weight_decay(), layer_decay=0.5
    )
    free = {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    scales = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    for key, parameter in network.named_parameters():
        is_position = key.startswith("pos_embed") or key == "cls_token"
        assert (id(parameter) in free) == (parameter.ndim == 1 or is_position), key
        assert scales[id(parameter)] == 0.5 ** (7 - layers[key])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("cswin_tiny_224", {"depths": (1, 1)}, "must have one number per stage, and stripe_widths"),
        (
            "cswin_tiny_224",
            {"num_heads": (2, 4, 7, 16)},
            "divide 256 channels and be even .* got 7",
        ),
        ("cswin_tiny_224", {"stripe_widths": (1, 0, None)}, "stripe_widths .* above 0, .* got"),
        ("pvt_v1_tiny", {"depths": (1, 1)}, r"one number per stage, got .*\(1, 1\)"),
        ("pvt_v1_tiny", {"sr_ratios": (8, 4, 2, 2)}, "must end with 1"),
        (
            "pvt_v1_tiny",
            {"num_heads": (1, 2, 3, 8)},
            r"must divide embed_dims .* got \(1, 2, 3, 8\)",
        ),
        ("pvt_v1_tiny", {"img_size": 28}, "multiples of 32 pixels, got 28 × 28; nearest: 32 × 32"),
    ],
)
def test_networks_that_can_not_be(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        timm.create_model(name, **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("cswin_tiny_224", 98, "multiples of 4 pixels, got 98 × 98; nearest: 96 × 96 or 100 × 100"),
        (
            "pvt_v1_tiny",
            112,
            "multiples of 32 pixels, got 112 × 112; nearest: 96 × 96 or 128 × 128",
        ),
    ],
)
def test_sizes_that_do_not_fit(name: str, size: int, message: str) -> None:
    sized = create_model(name, image_size=224, in_chans=3, num_classes=5, model_args=TINY[name])
    with pytest.raises(ValueError, match=f"does not fit input size {size}: .*{message}") as error:
        sized.set_input_size(size)
    assert "\n" not in str(error.value)


def classifier(name: str, checkpoint: Path, image_size: int = 224) -> Any:
    config = ClassifierConfig(
        encoder=name, encoder_args=TINY[name], image_size=image_size, global_pool=None
    )
    return build_classifier(config, list("abc"), str(checkpoint)).model.eval()


@pytest.mark.parametrize("wrapped", ["model", "state_dict_ema"])  # PVT's and CSWin's files
@networks
def test_checkpoints_of_the_originals(name: str, wrapped: str, tmp_path: Path) -> None:
    source = create(name)
    torch.save({wrapped: source.state_dict()}, tmp_path / "original.pth")
    loaded = classifier(name, tmp_path / "original.pth")
    torch.testing.assert_close(
        loaded.forward_features(images(224)), source.forward_features(images(224))
    )


@networks
def test_checkpoints_of_another_size(name: str, tmp_path: Path) -> None:
    """Position tables become what the full-size network makes of them at that size."""
    source = create(name)
    torch.save(source.state_dict(), tmp_path / "original.pth")
    loaded = classifier(name, tmp_path / "original.pth", image_size=96)
    features = source.forward_features(images(96))
    torch.testing.assert_close(loaded.forward_features(images(96)), features)
    sizes = {"img_size": 96} if name.startswith("pvt") else {}
    by_timm = timm.create_model(
        name,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "original.pth")},
        **TINY[name],
        **sizes,
    ).eval()
    torch.testing.assert_close(by_timm.forward_features(images(96)), features)


def test_names_are_known_once_the_package_is_imported() -> None:
    """And describe their images as timm does."""
    code = "import timm, mae_et.model; print(timm.list_models(['cswin*', 'pvt_v1*']))"
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert "cswin_base_384" in listed
    assert "pvt_v1_medium" in listed
    config = timm.get_pretrained_cfg("cswin_base_384")
    assert config is not None
    assert (config.input_size, config.classifier) == ((3, 384, 384), "head")
