"""PVT, the first version: a pyramid of ViT stages whose keys and values come from a smaller map.

Source: Pyramid Vision Transformer (https://arxiv.org/abs/2102.12122), Section 3 and Table 1.
(`pvt_v2_*` of timm is its successor, with overlapping patches and without position tables.)

**Sizes.** Each stage has a learned position table for the grid of the full size. At another input
size it is resampled in the forward pass, like every position table of this project (bicubic,
without antialiasing; the original resamples bilinearly), so gradients reach the full table, and
parameters and optimizer stay as they are. Patches and the regions of keys must divide the map,
which makes the sides of images multiples of eight patches: of 32 pixels for patches of 4. Smaller
images take a smaller `patch_size`.

**Checkpoints.** The tensors have the names and shapes of the original implementation, as the tests
check against a list that was written from its definition. With random weights by those names, a
transcription of the original gave the same outputs within 5e-6 (the smallest and the largest at 224
pixels). The public checkpoints were not at hand: that they reach their accuracy here is untested.
Position tables are not penalised by weight decay, unlike in the original, since no position of this
project is.

Shape legend: N images of C × H × W; maps (N, D, h, w); tokens (N, P + h · w, D), where P is 1, the
class token, in the last stage and 0 before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from timm.layers import calculate_drop_path_rates, trunc_normal_
from timm.models import generate_default_cfgs
from torch import Tensor, nn

from ...curriculum import Size, as_pair
from ..pos_embed import Grid, resample_table
from .pvt_blocks import Block, Patches
from .pyramid import PyramidTransformer, check_sides
from .registry import describe, register

VARIANTS: dict[str, dict[str, Any]] = {
    "pvt_v1_tiny": {"depths": (2, 2, 2, 2)},
    "pvt_v1_small": {"depths": (3, 4, 6, 3)},
    "pvt_v1_medium": {"depths": (3, 4, 18, 3)},
    "pvt_v1_large": {"depths": (3, 8, 27, 3)},
}
"""Table 1 of the paper: 13.2, 24.5, 44.2 and 61.4 M parameters; 1.9, 3.8, 6.7 and 9.8 GFLOPs."""


class PyramidVisionTransformer(PyramidTransformer):
    """PVT as timm has its networks: any image size, maps of the stages, layers for layer decay.

    Args:
        img_size: Full size, that of the position tables: pixels or (height, width).
        patch_size: Pixels of the first stage's patches, or (height, width).
        in_chans: C.
        num_classes: Classes of the output; 0 for features.
        global_pool: What is classified: the class token (token), the average of the others (avg),
            or all tokens ("").
        embed_dims: D of each stage.
        depths: Blocks of each stage.
        num_heads: Attention heads of each stage.
        mlp_ratios: Width of the MLPs of each stage relative to D.
        sr_ratios: Side, in tokens, of the regions that give a key and a value; 1 in the last stage.
        qkv_bias: Whether queries, keys and values have a bias.
        drop_rate: Dropout before the head.
        proj_drop_rate: Dropout after attention and in the MLPs.
        attn_drop_rate: Dropout of the attention.
        drop_path_rate: Stochastic depth of the last block; earlier ones have less.

    Raises:
        ValueError: The lists do not have one number per stage, heads do not divide channels, or
            the size does not fit.
    """

    pools = ("token", "avg", "")

    dynamic_img_size = True
    """That any size runs on these parameters, as timm says it."""

    def __init__(
        self,
        *,
        img_size: Size = 224,
        patch_size: Size = 4,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "token",
        embed_dims: Sequence[int] = (64, 128, 320, 512),
        depths: Sequence[int] = (3, 4, 6, 3),
        num_heads: Sequence[int] = (1, 2, 5, 8),
        mlp_ratios: Sequence[float] = (8, 8, 4, 4),
        sr_ratios: Sequence[int] = (8, 4, 2, 1),
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        lists = (embed_dims, depths, num_heads, mlp_ratios, sr_ratios)
        _check_lists(*lists)
        patch = as_pair(patch_size)
        strides = [(patch[0] * 2**stage, patch[1] * 2**stage) for stage in range(len(depths))]
        super().__init__(
            embed_dims=embed_dims,
            strides=strides,
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            drop_rate=drop_rate,
        )
        self.size_multiple = _multiple(strides, sr_ratios)
        check_sides(as_pair(img_size), self.size_multiple)
        self.full_grids = [
            (as_pair(img_size)[0] // rows, as_pair(img_size)[1] // columns)
            for rows, columns in strides
        ]
        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dims[-1]))
        rates = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)
        create = partial(
            Block, qkv_bias=qkv_bias, proj_drop=proj_drop_rate, attn_drop=attn_drop_rate
        )
        channels = in_chans
        for stage, (dim, _, heads, mlp_ratio, sr_ratio) in enumerate(zip(*lists, strict=True)):
            rows = math.prod(self.full_grids[stage]) + self._num_prefix(stage)
            patches = Patches(channels, dim, (2, 2) if stage else patch)
            blocks = [
                create(dim, heads, sr_ratio, mlp_ratio=mlp_ratio, drop_path=rate)
                for rate in rates[stage]
            ]
            setattr(self, f"patch_embed{stage + 1}", patches)
            setattr(self, f"pos_embed{stage + 1}", nn.Parameter(torch.empty(1, rows, dim)))
            setattr(self, f"block{stage + 1}", nn.ModuleList(blocks))
            channels = dim
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        for name in self.no_weight_decay():
            trunc_normal_(self.get_parameter(name), std=0.02)
        self.init_weights()

    def _num_prefix(self, stage: int) -> int:
        """Return P: the class token comes before the patches of the last stage."""
        return int(stage == len(self.full_grids) - 1)

    def embed(self, stage: int, maps: Tensor) -> tuple[Tensor, Grid]:
        """Turn the maps before a stage into its tokens and their grid.

        Raises:
            ValueError: The sides of the images do not fit.
        """
        if stage == 0:
            check_sides((maps.shape[-2], maps.shape[-1]), self.size_multiple)
        patches = getattr(self, f"patch_embed{stage + 1}")(maps)
        grid: Grid = (patches.shape[1], patches.shape[2])
        tokens, num_prefix = patches.flatten(1, 2), self._num_prefix(stage)
        if num_prefix:
            tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        table = getattr(self, f"pos_embed{stage + 1}")
        return tokens + resample_table(table, self.full_grids[stage], grid, num_prefix), grid

    def blocks(self, stage: int) -> nn.ModuleList:
        """Return the blocks of a stage."""
        blocks: nn.ModuleList = getattr(self, f"block{stage + 1}")
        return blocks

    def names_of_stage(self, stage: int) -> list[str]:
        """Return the names of the modules and parameters that belong to a stage."""
        names = [f"patch_embed{stage + 1}", f"pos_embed{stage + 1}", f"block{stage + 1}"]
        return [*names, *["cls_token"] * self._num_prefix(stage)]

    def fit_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights with position tables of other square grids resampled to the full size.

        Args:
            weights: Weights of a network like this one by name; others stay as they are.
        """
        fitted = dict(weights)
        for stage, grid in enumerate(self.full_grids):
            name, num_prefix = f"pos_embed{stage + 1}", self._num_prefix(stage)
            table = weights.get(name)
            rows = 0 if table is None or table.ndim != 3 else table.shape[1] - num_prefix
            side = math.isqrt(max(rows, 0))
            if table is not None and rows > 0 and side * side == rows != math.prod(grid):
                fitted[name] = resample_table(table, (side, side), grid, num_prefix)
        return fitted

    def no_weight_decay(self) -> set[str]:
        """Return the names of the position tables and the class token."""
        return {"cls_token", *(f"pos_embed{stage + 1}" for stage in range(self.num_stages))}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Say which parameters make a layer; what embeds a map belongs to the block after it.

        Args:
            coarse: Whether a layer is a stage, not a block.
        """
        last = (r"^norm\.", (99999,))  # timm's number for the layer before
        if coarse:
            blocks: list[Any] = [(r"^(?:block|patch_embed|pos_embed)(\d+)", None)]
        else:
            blocks = [(r"^block(\d+)\.(\d+)\.", None), (r"^(?:patch|pos)_embed(\d+)", (0,))]
        token = (r"^cls_token", (self.num_stages,) if coarse else (self.num_stages, 0))
        return {"stem": r"^(?:patch|pos)_embed1", "blocks": [*blocks, token, last]}


def _multiple(strides: Sequence[Grid], sr_ratios: Sequence[int]) -> tuple[int, int]:
    """Return what the sides of images must be multiples of, (height, width) in pixels."""
    sides = zip(*strides, strict=True)
    rows, columns = (
        math.lcm(*(s * ratio for s, ratio in zip(side, sr_ratios, strict=True))) for side in sides
    )
    return rows, columns


def _check_lists(
    embed_dims: Sequence[int],
    depths: Sequence[int],
    num_heads: Sequence[int],
    mlp_ratios: Sequence[float],
    sr_ratios: Sequence[int],
) -> None:
    """Check what each stage is made of.

    Raises:
        ValueError: A number is missing or does not fit.
    """
    if len({len(one) for one in (embed_dims, depths, num_heads, mlp_ratios, sr_ratios)}) > 1:
        raise ValueError(
            "embed_dims, depths, num_heads, mlp_ratios and sr_ratios of PyramidVisionTransformer "
            f"must have one number per stage, got {embed_dims}, {depths}, {num_heads}, "
            f"{mlp_ratios} and {sr_ratios}"
        )
    if any(dim % heads for dim, heads in zip(embed_dims, num_heads, strict=True)):
        raise ValueError(
            f"num_heads of PyramidVisionTransformer must divide embed_dims {embed_dims}, "
            f"got {num_heads}"
        )
    if sr_ratios[-1] != 1:
        raise ValueError(
            "sr_ratios of PyramidVisionTransformer must end with 1, since the class token of the "
            f"last stage has no place in a map, got {sr_ratios}"
        )


default_cfgs = generate_default_cfgs(
    {name: describe("patch_embed1.proj", takes_img_size=True) for name in VARIANTS}
)
for name, sizes in VARIANTS.items():
    register(PyramidVisionTransformer, name, sizes)
