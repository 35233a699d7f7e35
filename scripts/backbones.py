"""Backbones for `scripts/study_backbones.py` that timm does not have in this size.

With this folder on PYTHONPATH, they are named as "module:callable":
`--model.encoder backbones:cross_shaped`.
"""

from __future__ import annotations

import torch
from einops import rearrange
from timm.models.metaformer import (
    Attention,
    LayerNorm2dNoBias,
    LayerNormNoBias,
    MetaFormer,
    SepConv,
)
from torch import Tensor, nn
from torch.nn import functional as F


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


def cross_shaped(num_classes: int, in_chans: int, img_size: int) -> nn.Module:
    """A small transformer with the attention of CSWin (https://arxiv.org/abs/2107.00652)."""
    return CrossShaped(num_classes, in_chans, img_size)


class CrossShaped(nn.Module):
    """Three stages; half of the heads attend in horizontal stripes, half in vertical ones.

    The stripes of the last stage are as wide as its grid, so the model has to be built for the
    input size. Positions come from a depth-wise convolution of the values.
    """

    def __init__(self, num_classes: int, in_chans: int, img_size: int) -> None:
        super().__init__()
        grid = img_size // 2
        dims, stripes = (32, 64, 128), (1, 2, grid // 4)
        layers: list[nn.Module] = [nn.Conv2d(in_chans, dims[0], 3, stride=2, padding=1)]
        for stage, (dim, stripe) in enumerate(zip(dims, stripes, strict=True)):
            if stage:
                layers.append(nn.Conv2d(dims[stage - 1], dim, 3, stride=2, padding=1))
            layers += [Block(dim, stripe, num_heads=dim // 16) for _ in range(2)]
        self.layers = nn.Sequential(*layers)
        self.norm, self.head = nn.LayerNorm(dims[-1]), nn.Linear(dims[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N, classes) of images (N, C, H, W)."""
        features = self.layers(images)  # (N, D, h, w)
        scores: Tensor = self.head(self.norm(features.mean((2, 3))))
        return scores


class Block(nn.Module):
    """Attention in stripes, and an MLP: (N, D, h, w) -> (N, D, h, w)."""

    def __init__(self, dim: int, stripe: int, num_heads: int) -> None:
        super().__init__()
        self.stripe, self.num_heads = stripe, num_heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.local = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, D, h, w) -> likewise."""
        tokens: Tensor = rearrange(features, "n d h w -> n h w d")
        query, key, value = self.qkv(self.norm1(tokens)).chunk(3, dim=-1)
        local = rearrange(self.local(rearrange(value, "n h w d -> n d h w")), "n d h w -> n h w d")
        rows, columns = zip(*(part.chunk(2, dim=-1) for part in (query, key, value)), strict=True)
        turned = [part.transpose(1, 2) for part in columns]
        mixed = [self.attend(*rows), self.attend(*turned).transpose(1, 2)]
        tokens = tokens + self.proj(torch.cat(mixed, dim=-1) + local)
        tokens = tokens + self.mlp(self.norm2(tokens))
        attended: Tensor = rearrange(tokens, "n h w d -> n d h w")
        return attended

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention in stripes of rows; arguments and result are (N, h, w, D / 2)."""
        pattern = "n (s r) w (a d) -> (n s) a (r w) d"
        heads = {"r": self.stripe, "a": self.num_heads // 2}
        queries, keys, values = (rearrange(part, pattern, **heads) for part in (query, key, value))
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        merged: Tensor = rearrange(
            mixed, "(n s) a (r w) d -> n (s r) w (a d)", n=len(query), r=self.stripe
        )
        return merged
