"""mae_et.model.any_size and finetune.model.backbone: sizes change, parameters stay."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table_simple
from timm.models.metaformer import Attention, LayerNorm2dNoBias, LayerNormNoBias, SepConv
from timm.optim import param_groups_layer_decay
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from finetune.model.backbone import create_model
from mae_et.curriculum import Size, as_pair
from mae_et.model.any_size import SizedModel


class Family(NamedTuple):
    name: str
    sizes: tuple[int, int, int]  # small, middle, full
    model_args: dict[str, Any]
    drop_path: float = 0.0


VIT = {"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
FAMILIES = {
    "resnet": Family(
        "timm.models.resnet:ResNet",
        (40, 48, 56),
        {
            "block": timm.models.resnet.BasicBlock,
            "layers": (1, 1, 1, 1),
            "channels": (8, 8, 16, 16),
        },
    ),
    "convnext": Family(
        "convnext_atto", (40, 48, 56), {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
    ),
    "deit": Family("deit_tiny_patch16_224", (20, 24, 28), VIT),
    "distilled deit": Family("deit_tiny_distilled_patch16_224", (20, 24, 28), VIT),
    "pvt": Family(
        "pvt_v2_b0", (40, 48, 56), {"embed_dims": (8, 8, 16, 16), "num_heads": (1, 1, 1, 1)}
    ),
    "swin": Family(
        "swin_tiny_patch4_window7_224",
        (40, 48, 56),
        {"patch_size": 2, "embed_dim": 8, "depths": (2, 2, 2), "num_heads": (1, 2, 2)},
    ),
    "caformer": Family(
        "timm.models.metaformer:MetaFormer",
        (40, 48, 56),
        {
            "depths": (1, 1, 1, 1),
            "dims": (8, 8, 32, 64),
            "token_mixers": (SepConv, SepConv, Attention, Attention),
            "norm_layers": (LayerNorm2dNoBias, LayerNorm2dNoBias, LayerNormNoBias, LayerNormNoBias),
        },
    ),
    "beit": Family("beit_base_patch16_224", (20, 24, 28), VIT),
    "cswin": Family(
        "cswin_tiny_224",
        (40, 48, 56),
        {"embed_dim": 8, "depths": (1, 1), "num_heads": (2, 2), "stripe_widths": (None,)},
    ),
    "pvt v1": Family(
        "pvt_v1_tiny",
        (40, 48, 56),
        {
            "patch_size": 4,
            "embed_dims": (8, 16),
            "depths": (1, 1),
            "num_heads": (1, 2),
            "mlp_ratios": (2, 2),
            "sr_ratios": (2, 1),
        },
    ),
    "own": Family("tests.support.own_model:windowed", (40, 48, 56), {}),
}
families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
with_tables = pytest.mark.parametrize(
    "family", [FAMILIES[name] for name in ("distilled deit", "swin", "beit", "own")]
)
NUM_CLASSES = 5


def build(family: Family, size: Size | None = None) -> SizedModel:
    torch.manual_seed(0)
    return create_model(
        family.name,
        image_size=family.sizes[-1] if size is None else size,
        in_chans=3,
        num_classes=NUM_CLASSES,
        drop_path=family.drop_path,
        model_args=family.model_args,
    )


def images(size: Size) -> Tensor:
    return torch.randn(3, 3, *as_pair(size), generator=torch.Generator().manual_seed(1))


def randomize(model: nn.Module) -> None:
    """Biases and tables start at zero, which would hide a mistake in them."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)


@families
def test_stages_train_the_same_parameters(family: Family) -> None:
    sized = build(family).train()
    before = dict(sized.model.named_parameters())
    keys = sized.model.state_dict().keys()
    randomize(sized)  # a layer scale of 1e-6 would round gradients of the branch to nothing
    groups = param_groups_layer_decay(sized.model, 0.05, layer_decay=0.7)
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    assert sum(len(group["params"]) for group in groups) == len(before)
    for done, size in enumerate(family.sizes):
        states = copy.deepcopy(optimizer.state_dict()["state"])
        sized.set_input_size(size)
        assert all(sized.model.get_parameter(name) is p for name, p in before.items())
        assert dict(sized.named_parameters()).keys() == {f"model.{name}" for name in before}
        assert sized.model.state_dict().keys() == keys
        torch.testing.assert_close(optimizer.state_dict()["state"], states, rtol=0, atol=0)
        weights = [parameter.clone() for parameter in before.values()]
        nn.functional.cross_entropy(sized(images(size)), torch.tensor([0, 1, 2])).backward()
        for name, parameter in before.items():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0 or name.endswith("k_bias"), name
        optimizer.step()
        optimizer.zero_grad()
        assert {int(state["step"]) for state in optimizer.state.values()} == {done + 1}
        assert not any(map(torch.equal, weights, before.values()))


@families
def test_full_size_is_the_plain_model(family: Family) -> None:
    sized = build(family)
    plain = copy.deepcopy(sized.model)
    for size in family.sizes:  # visiting other sizes leaves no trace
        sized.set_input_size(size)
    x = images(family.sizes[-1])
    assert torch.equal(sized(x), plain(x))


def resampled(family: Family, weights: dict[str, Tensor], size: int) -> dict[str, Tensor]:
    """Weights for a model of another size, with each family's numbers written out."""
    full = family.sizes[-1]
    weights = dict(weights)
    for name, weight in weights.items():
        if name.endswith("pos_embed"):
            num_prefix = {"deit_tiny_distilled_patch16_224": 2}.get(family.name, 1)
            grids = [[size // 4] * 2, [full // 4] * 2]
            weights[name] = resample_abs_pos_embed(
                weight, *grids, num_prefix_tokens=num_prefix, antialias=False
            )
        elif name in ("pos_embed1", "pos_embed2"):  # of PVT
            stride, num_prefix = {"pos_embed1": (4, 0), "pos_embed2": (8, 1)}[name]
            weights[name] = resample_abs_pos_embed(
                weight,
                [size // stride] * 2,
                [full // stride] * 2,
                num_prefix_tokens=num_prefix,
                antialias=False,
            )
        elif name.endswith("relative_position_bias_table"):
            window, num_extra = {
                "beit_base_patch16_224": (size // 4, 3),
                "tests.support.own_model:windowed": (size // 8, 0),
            }.get(family.name, (size // 8, 0))  # Swin: 7 at 56, 6 at 48, 5 at 40
            shape = ((2 * window - 1) ** 2 + num_extra, weight.shape[1])
            weights[name] = resize_rel_pos_bias_table_simple(weight, (window, window), shape)
    weights.pop("index", None)
    return weights


@families
def test_small_size_equals_a_model_of_that_size(family: Family) -> None:
    sized = build(family).eval()
    randomize(sized)
    for size in family.sizes[:2]:
        if family.name.startswith("swin"):
            other = timm.create_model(
                family.name,
                img_size=size,
                window_size=size // 8,
                num_classes=NUM_CLASSES,
                **family.model_args,
            ).eval()
        else:
            other = build(family, size).model.eval()
        missing, unexpected = other.load_state_dict(
            resampled(family, sized.model.state_dict(), size), strict=False
        )
        assert not unexpected
        assert set(missing) <= {"index"}
        sized.set_input_size(size)
        torch.testing.assert_close(sized(images(size)), other(images(size)), rtol=0, atol=1e-5)
        assert size != family.sizes[0] or not torch.allclose(
            sized(images(size)), torch.zeros(()), atol=1e-3
        )


@pytest.mark.parametrize("name", ["deit", "swin", "beit", "cswin", "pvt v1"])
def test_oblong_sizes(name: str) -> None:
    family = FAMILIES[name]
    small, middle, full = family.sizes
    sized, upright = build(family).eval(), (full, middle)
    sized.set_input_size((middle, small))
    assert sized(images((middle, small))).shape == (3, NUM_CLASSES)
    sized = build(family, upright)
    sized.set_input_size((middle, small))
    assert sized(images((middle, small))).shape == (3, NUM_CLASSES)


def test_windows_of_swin_follow_the_size() -> None:
    sized = build(FAMILIES["swin"])
    for size, window in ((40, 5), (48, 6)):
        sized.set_input_size(size)
        twin = sized._twins[size, size]
        assert twin is not None
        blocks = [block for stage in twin.module.layers for block in stage.blocks]  # type: ignore
        assert {block.window_size for block in blocks} == {(window, window)}
        assert {block.shift_size for block in blocks[:2]} == {(0, 0), (window // 2, window // 2)}


@pytest.mark.parametrize("name", ["resnet", "own"])
def test_batch_norm_statistics_move_in_the_full_model(name: str) -> None:
    """The running mean of the first norm is that of its input, at every size."""
    family = FAMILIES[name]
    sized = build(family)
    norm = sized.model.bn1 if name == "resnet" else sized.model.norm
    stem = sized.model.conv1 if name == "resnet" else sized.model.stem
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(stem, nn.Conv2d)
    assert norm.running_mean is not None
    expected = torch.zeros_like(norm.running_mean)
    for done, size in enumerate(family.sizes):
        sized.eval()
        sized.check_input_size(size)
        sized.set_input_size(size)
        sized(images(size))
        assert norm.num_batches_tracked == done  # not in evaluation mode
        sized.train()
        sized(images(size))
        assert norm.num_batches_tracked == done + 1
        expected = 0.9 * expected + 0.1 * stem(images(size)).mean((0, 2, 3))
        torch.testing.assert_close(norm.running_mean, expected)


@with_tables
def test_deepcopies_are_models_of_their_own(family: Family) -> None:
    sized = build(family).eval()
    small = family.sizes[0]
    sized.set_input_size(small)
    before = sized(images(small))
    average = ModelEmaV3(sized, decay=0.5)
    randomize(sized)
    torch.testing.assert_close(average.module(images(small)), before, rtol=0, atol=0)
    average.update(sized)
    after = sized(images(small))
    assert not torch.allclose(average.module(images(small)), before)
    assert not torch.allclose(average.module(images(small)), after)
    average.set(sized)
    torch.testing.assert_close(average.module(images(small)), after, rtol=0, atol=0)


@with_tables
def test_twins_hold_no_weights(family: Family) -> None:
    sized = build(family)
    sized.set_input_size(family.sizes[0])
    twin = sized._twins[as_pair(family.sizes[0])]
    assert twin is not None
    assert all(parameter.is_meta for parameter in twin.module.parameters())
    sized.double()  # the buffers that the twin owns follow
    assert sized(images(family.sizes[0]).double()).dtype == torch.float64


def test_twins_take_the_mode_of_each_module() -> None:
    family = FAMILIES["deit"]
    sized = build(family._replace(model_args={**VIT, "proj_drop_rate": 0.5}))
    for mode in (True, False, True):
        sized.train(mode)
        sized.set_input_size(20)
        twice = sized(images(20)), sized(images(20))
        assert torch.equal(*twice) is not mode


def test_building_twins_draws_no_random_numbers() -> None:
    sized = build(FAMILIES["own"])
    before = torch.get_rng_state()
    sized.set_input_size(40)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["deit", "own", "cswin", "pvt v1"])
def test_compile_without_graph_breaks(name: str) -> None:
    family = FAMILIES[name]
    torch._dynamo.reset()
    if "depth" in family.model_args:  # compiling takes seconds a block
        family = family._replace(model_args={**family.model_args, "depth": 1})
    sized = build(family)
    randomize(sized)
    plain = copy.deepcopy(sized)
    sized.compile(backend="eager", dynamic=False, fullgraph=True)
    for size in family.sizes[::2]:  # small and full
        sized.set_input_size(size)
        plain.set_input_size(size)
        outputs = sized(images(size)), plain(images(size))
        torch.testing.assert_close(*outputs, rtol=0, atol=1e-5)
        for output in outputs:
            output.sum().backward()
    for ours, theirs in zip(sized.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


def test_autocast() -> None:
    sized = build(FAMILIES["swin"])
    for size in (40, 56):
        sized.set_input_size(size)
        with torch.autocast("cpu", torch.bfloat16):
            logits = sized(images(size))
        assert logits.dtype == torch.bfloat16
        torch.testing.assert_close(logits.float(), sized(images(size)), rtol=0, atol=0.05)


@pytest.fixture
def one_process(tmp_path: Any) -> Any:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_distributed_data_parallel() -> None:
    sized = build(FAMILIES["own"])
    plain = copy.deepcopy(sized)
    wrapped = nn.parallel.DistributedDataParallel(sized)
    for size in (40, 56):
        sized.set_input_size(size)
        plain.set_input_size(size)
        wrapped(images(size)).sum().backward()
        plain(images(size)).sum().backward()
    for ours, theirs in zip(sized.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    assert torch.equal(sized.model.norm.running_var, plain.model.norm.running_var)  # type: ignore


@pytest.mark.parametrize(
    ("family", "size", "message"),
    [
        (FAMILIES["deit"], 22, "multiple of the patch size 4 of VisionTransformer, got 22"),
        (FAMILIES["swin"], 41, "multiple of the patch size 2 of SwinTransformer, got 41"),
        (FAMILIES["deit"], 32, "input size must be in 1 … 28, got 32"),
        (FAMILIES["deit"], 0, "input size must be in 1 … 28, got 0"),
        (FAMILIES["resnet"], (16, 60), r"input size must be in 1 … 56, got \(16, 60\)"),
        (FAMILIES["own"], 44, "Windowed does not fit input size 44: "),
        (
            Family("tests.support.own_model:fixed", (16, 24, 32), {}),
            16,
            "Sequential does not fit input size 16: mat1 and mat2",
        ),
        (
            Family(
                "timm.models.mlp_mixer:MlpMixer", (32, 48, 64), {"embed_dim": 8, "num_blocks": 1}
            ),
            32,
            r"MlpMixer .* parameter blocks.0.mlp_tokens.fc1.weight, \[4, 16\] -> \[4, 4\]",
        ),
    ],
)
def test_sizes_that_do_not_fit(family: Family, size: Size, message: str) -> None:
    sized = build(family)
    with pytest.raises(ValueError, match=message) as error:
        sized.set_input_size(size)
    assert "\n" not in str(error.value)
    assert sized.input_size == as_pair(family.sizes[-1])


def test_images_of_another_size() -> None:
    sized = build(FAMILIES["resnet"])
    sized.set_input_size(40)
    with pytest.raises(
        ValueError, match=r"images must be of 40 × 40 pixels, got .* set_input_size"
    ):
        sized(images(56))
