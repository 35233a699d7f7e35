"""Networks in stages in transformers: the same outputs as timm's, or one line that says why not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from mae_et.weights.backbones import check_same, to_backbone
from mae_et.weights.to_transformers import image_processor, save_transformers
from tests.support.models import randomized
from tests.support.tensors import seeded

transformers = pytest.importorskip("transformers")

SWIN = {
    "img_size": 32,
    "patch_size": 2,
    "window_size": 2,
    "embed_dim": 16,
    "depths": (2, 2, 2),
    "num_heads": (1, 2, 4),
}
CONVNEXT = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}
RESNET = {"channels": (4, 8, 16, 16)}
PVT = {"embed_dims": (8, 16, 16, 32), "depths": (1, 1, 2, 1), "num_heads": (1, 2, 2, 4)}
HIERA = {"img_size": 64, "embed_dim": 16, "stages": (1, 2, 2, 1)}
CLASSES = ["a", "b", "c"]


def build(name: str, num_classes: int, arguments: dict[str, Any]) -> Any:
    """A network with every number drawn anew, the statistics of batch norms included."""
    network = randomized(timm.create_model(name, num_classes=num_classes, **arguments))
    for name, value in network.named_buffers():
        if name.endswith("running_mean"):
            value.normal_()
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2)
    return network


@pytest.mark.parametrize(
    ("name", "arguments", "size", "class_name"),
    [
        ("swin_tiny_patch4_window7_224", SWIN, 32, "SwinModel"),
        # The window is the last map; fewer stages; no bias.
        (
            "swin_tiny_patch4_window7_224",
            {**SWIN, "window_size": 8, "depths": (1, 2), "num_heads": (2, 4), "qkv_bias": False},
            32,
            "SwinForImageClassification",
        ),
        # Its linear layers are convolutions.
        ("convnext_atto", CONVNEXT, 64, "ConvNextForImageClassification"),
        (
            "convnext_tiny",
            {**CONVNEXT, "ls_init_value": None, "patch_size": 1},
            32,
            "ConvNextModel",
        ),
        ("convnextv2_atto", CONVNEXT, 64, "ConvNextV2ForImageClassification"),
        ("resnet18", RESNET, 64, "ResNetForImageClassification"),
        ("resnet50", RESNET, 64, "ResNetModel"),
        ("pvt_v1_tiny", {**PVT, "img_size": 64}, 64, "PvtModel"),
        ("pvt_v1_tiny", {**PVT, "img_size": 64}, 64, "PvtForImageClassification"),
        ("hiera_tiny_224", HIERA, 64, "HieraModel"),
        # Split positions, and layer scale.
        ("hiera_base_abswin_256", HIERA, 64, "HieraForImageClassification"),
    ],
)
def test_outputs_are_timms(
    tmp_path: Path,
    name: str,
    arguments: dict[str, Any],
    size: int,
    class_name: str,
) -> None:
    class_names = [] if class_name.endswith("Model") else CLASSES
    network = build(name, len(class_names), arguments)
    processor = image_processor(size=size, mean=(0.5,) * 3, std=(0.2,) * 3, crop_pct=1.0)
    converted = to_backbone(network, class_names, size)
    save_transformers(converted, processor, tmp_path)
    check_same(network, converted, tmp_path, size)

    auto = "AutoModelForImageClassification" if class_names else "AutoModel"
    opened, info = getattr(transformers, auto).from_pretrained(tmp_path, output_loading_info=True)
    assert type(opened).__name__ == class_name
    assert not any(info.values())
    opened.train()  # there is no drop path either
    for module in opened.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    images = seeded(3, 3, size, size)
    with torch.no_grad():
        output = opened(images)
        if class_names:
            assert [opened.config.id2label[n] for n in range(3)] == CLASSES
            theirs, ours = output.logits, network(images)
        else:
            theirs = output.last_hidden_state
            ours = network.forward_features(images).reshape(theirs.shape)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)
    assert ours.std() > 0.1


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("swin_tiny_patch4_window7_224", {**SWIN, "window_size": 8}, "sizes (8 x 8, 4 x 4)"),
        (
            "swin_tiny_patch4_window7_224",
            {**SWIN, "window_size": 3},
            "windows of 3 that do not fit",
        ),
        ("convnext_atto", {**CONVNEXT, "output_stride": 8}, "dilated stages (output_stride)"),
        ("convnext_atto_ols", CONVNEXT, "a stem of several convolutions"),
        ("resnet50d", RESNET, "a stem of several convolutions, shortcuts that average"),
        ("resnet18", {**RESNET, "output_stride": 8}, "dilated stages (output_stride)"),
        ("pvt_v1_tiny", {**PVT, "img_size": 32, "patch_size": 2}, "patches of another size than 4"),
        ("hiera_small_abswin_256", HIERA, "stages that grow without a layer"),
        ("cswin_tiny_224", {}, "got a CSWinTransformer"),
    ],
)
def test_what_transformers_cannot_express(
    name: str, arguments: dict[str, Any], message: str
) -> None:
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=0, **arguments)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        to_backbone(network, [], 64)
    assert str(error.value).endswith("export to timm or onnx instead")
    assert "\n" not in str(error.value)


def test_a_pooling_that_a_classifier_of_transformers_has_not() -> None:
    network = build("pvt_v1_tiny", 3, {**PVT, "img_size": 64, "global_pool": "avg"})
    with pytest.raises(ValueError, match="express a classifier of global_pool 'avg'"):
        to_backbone(network, CLASSES, 64)


def test_what_no_list_knows_is_noticed(tmp_path: Path) -> None:
    """Another activation, of which neither names nor shapes tell."""
    network = build("resnet18", 0, {**RESNET, "act_layer": "silu"})
    converted = to_backbone(network, [], 32)
    processor = image_processor(size=32, mean=(0.5,) * 3, std=(0.2,) * 3, crop_pct=1.0)
    save_transformers(converted, processor, tmp_path)
    with pytest.raises(ValueError, match=r"another network here \(its outputs differ by up to"):
        check_same(network, converted, tmp_path, 32)
