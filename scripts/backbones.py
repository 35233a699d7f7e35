"""Backbones for `scripts/study_backbones.py` that timm does not have in this size.

With this folder on PYTHONPATH, they are named as "module:callable":
`--model.encoder backbones:caformer`.
"""

from __future__ import annotations

from timm.models.metaformer import (
    Attention,
    LayerNorm2dNoBias,
    LayerNormNoBias,
    MetaFormer,
    SepConv,
)
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
