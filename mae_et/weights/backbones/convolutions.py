"""ConvNeXt, its second version, and ResNet as transformers has them."""

from __future__ import annotations

from typing import Any

from timm.models.convnext import ConvNeXt
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn

from .kind import Kind


def _convnext_lacks(convnext: ConvNeXt) -> dict[str, bool]:
    convs = [module for module in convnext.modules() if isinstance(module, nn.Conv2d)]
    kernels = {block.conv_dw.kernel_size for stage in convnext.stages for block in stage.blocks}
    return {
        "a stem of several convolutions": len(convnext.stem) != 2,
        "patches of 2 pixels, which a stage follows that halves": convnext.stem[0].stride == (2, 2),
        "dilated stages (output_stride)": any(conv.dilation != (1, 1) for conv in convs),
        f"kernels of {', '.join(map(str, kernels))}": kernels != {(7, 7)},
        "a norm before the pooling (head_norm_first)": not isinstance(
            convnext.norm_pre, nn.Identity
        ),
        "a head of two layers (head_hidden_size)": getattr(convnext.head, "hidden_size", None)
        is not None,
    }


def _convnext_config(convnext: ConvNeXt) -> dict[str, Any]:
    blocks = [stage.blocks for stage in convnext.stages]
    gamma = blocks[0][0].gamma
    return {
        "patch_size": convnext.stem[0].stride[0],
        "hidden_sizes": [of_stage[0].conv_dw.out_channels for of_stage in blocks],
        "depths": [len(of_stage) for of_stage in blocks],
        "num_stages": len(blocks),
        "layer_norm_eps": convnext.head.norm.eps,
        "layer_scale_init_value": 0.0 if gamma is None else 1e-6,  # of new weights, and whether
    }


def _convnext_weights(convnext: ConvNeXt) -> dict[str, Tensor]:
    """Linear layers that timm has as convolutions lose their kernel; statistics gain axes."""
    return {
        name: value.flatten(1)
        if ".mlp.fc" in name and name.endswith("weight")
        else value.view(1, 1, 1, -1)
        if ".grn." in name
        else value
        for name, value in convnext.state_dict().items()
    }


def _resnet_lacks(resnet: ResNet) -> dict[str, bool]:
    blocks = [block for stage in _resnet_stages(resnet) for block in stage]
    bottlenecks = [block for block in blocks if isinstance(block, Bottleneck)]
    convs = [module for module in resnet.modules() if isinstance(module, nn.Conv2d)]
    shortcuts = [block.downsample for block in blocks if block.downsample is not None]
    return {
        "a stem of several convolutions": not isinstance(resnet.conv1, nn.Conv2d),
        "a stem without max pooling": not isinstance(resnet.maxpool, nn.MaxPool2d),
        "shortcuts that average": not all(isinstance(s[0], nn.Conv2d) for s in shortcuts),
        "dilated stages (output_stride)": any(conv.dilation != (1, 1) for conv in convs),
        "groups of channels": any(conv.groups > 1 for conv in convs),
        "wider blocks": any(b.conv2.out_channels * 4 != b.conv3.out_channels for b in bottlenecks),
        "attention to channels": any(block.se is not None for block in blocks),
        "anti-aliasing": any(not isinstance(block.aa, nn.Identity) for block in blocks),
    }


def _resnet_stages(resnet: ResNet) -> list[Any]:
    return [resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4]


def _resnet_config(resnet: ResNet) -> dict[str, Any]:
    stages = _resnet_stages(resnet)
    is_bottleneck = isinstance(stages[0][0], Bottleneck)
    return {
        "embedding_size": resnet.conv1.out_channels,
        "hidden_sizes": [
            (stage[0].conv3 if is_bottleneck else stage[0].conv2).out_channels for stage in stages
        ],
        "depths": [len(stage) for stage in stages],
        "layer_type": "bottleneck" if is_bottleneck else "basic",
        "downsample_in_bottleneck": False,
    }


CONVNEXT = Kind(
    name="ConvNext",
    lacks=_convnext_lacks,
    config=_convnext_config,
    renaming=lambda _: (
        (r"^stem\.0\.", "embeddings.patch_embeddings."),
        (r"^stem\.1\.", "embeddings.layernorm."),
        (r"^stages\.", "encoder.stages."),
        (r"\.downsample\.", ".downsampling_layer."),
        (r"\.blocks\.", ".layers."),
        (r"\.conv_dw\.", ".dwconv."),
        (r"^head\.norm\.", "layernorm."),
        (r"\.norm\.", ".layernorm."),
        (r"\.mlp\.fc", ".pwconv"),
        (r"\.mlp\.grn\.", ".grn."),
        (r"\.gamma$", ".layer_scale_parameter"),
        (r"^head\.fc\.", "classifier."),
    ),
    weights=_convnext_weights,
)

RESNET = Kind(
    name="ResNet",
    lacks=_resnet_lacks,
    config=_resnet_config,
    renaming=lambda _: (
        (r"^conv1\.", "embedder.embedder.convolution."),
        (r"^bn1\.", "embedder.embedder.normalization."),
        *((rf"^layer{n + 1}\.", f"encoder.stages.{n}.layers.") for n in range(4)),
        *((rf"\.conv{n + 1}\.", f".layer.{n}.convolution.") for n in range(3)),
        *((rf"\.bn{n + 1}\.", f".layer.{n}.normalization.") for n in range(3)),
        (r"\.downsample\.0\.", ".shortcut.convolution."),
        (r"\.downsample\.1\.", ".shortcut.normalization."),
        (r"^fc\.", "classifier.1."),
    ),
    weights=lambda resnet: dict(resnet.state_dict()),
)
