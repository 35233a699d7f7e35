"""Backbones for `scripts/study_supervised.py` that timm does not have in this size.

With this folder on PYTHONPATH, they are named as "module:callable":
`--model.encoder backbones:caformer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models.convnext import ConvNeXt
from timm.models.metaformer import (
    Attention,
    LayerNorm2dNoBias,
    LayerNormNoBias,
    MetaFormer,
    SepConv,
)
from timm.models.resnet import BasicBlock, ResNet
from torch import nn


def caformer(num_classes: int, in_chans: int, drop_path_rate: float = 0.0) -> nn.Module:
    """The CAFormer of timm, with fewer blocks and channels than its smallest."""
    model: nn.Module = MetaFormer(
        in_chans=in_chans,
        num_classes=num_classes,
        depths=(1, 1, 3, 1),
        dims=(32, 64, 128, 192),
        token_mixers=(SepConv, SepConv, Attention, Attention),
        norm_layers=(LayerNorm2dNoBias,) * 2 + (LayerNormNoBias,) * 2,
        drop_path_rate=drop_path_rate,
    )
    return model


def resnet(
    num_classes: int,
    in_chans: int,
    drop_path_rate: float = 0.0,
    layers: Sequence[int] = (2, 2),
    channels: Sequence[int] = (32, 64),
) -> nn.Module:
    """The ResNet of timm with two stages, of a half and a quarter of the image's side.

    Maps of four stages would be rounded up at 28 and 20 pixels, so that these cost nearly the same.
    """
    model: Any = ResNet(
        BasicBlock,
        (*layers, 1, 1),
        channels=(*channels, channels[-1], channels[-1]),
        in_chans=in_chans,
        num_classes=num_classes,
        stem_width=channels[0] // 2,
        stem_type="deep",
        drop_path_rate=drop_path_rate,
    )
    model.maxpool = model.layer3 = model.layer4 = nn.Identity()
    return _with_strides(model, model.feature_info[1:3])


def convnext(
    num_classes: int,
    in_chans: int,
    drop_path_rate: float = 0.0,
    depths: Sequence[int] = (1, 2),
    dims: Sequence[int] = (32, 96),
) -> nn.Module:
    """The ConvNeXt of timm with two stages, of a half and a quarter of the image's side.

    Its four stages would end in maps of 3.5 x 3.5 for an image of 28 pixels, of which it drops the
    border, but not at 24 pixels.
    """
    model: Any = ConvNeXt(
        in_chans=in_chans,
        num_classes=num_classes,
        depths=(*depths, 0, 0),
        dims=(*dims, dims[-1], dims[-1]),
        patch_size=2,
        drop_path_rate=drop_path_rate,
    )
    model.stages = model.stages[:2]
    model.stages[0].downsample = nn.Identity()
    return _with_strides(model, model.feature_info[:2])


def _with_strides(model: Any, stages: Sequence[dict[str, Any]]) -> nn.Module:
    """Return a network of two stages that tells their strides."""
    model.feature_info = [
        info | {"reduction": stride} for info, stride in zip(stages, (2, 4), strict=True)
    ]
    network: nn.Module = model
    return network
