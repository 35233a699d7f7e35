"""timm's Hiera on some of its mask units, at any input size.

Hiera (https://arxiv.org/abs/2306.00989) attends within mask units of 8 × 8 tokens in its first two
stages, and over all of the image in the others. So units can be left out, unlike the patches of
other hierarchical networks, and what is computed are the units that are seen.

Pretraining leaves out the last pooling, as the released code does: it has no parameters, and a unit
of 32 pixels ends as 2 × 2 patches of 16 pixels for the decoder, not as one of 32.

Shape legend: N images, U mask units, K of them seen, T tokens of a unit after the stem, D channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from timm.models.hiera import Hiera, HieraBlock, Reroll, Unroll
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import check
from .mae_input_size import whole_table
from .masking import take_patches
from .pos_embed import Grid


class UnitLayout(NamedTuple):
    """What a mask unit of a Hiera looks like to the decoder."""

    patch_size: tuple[int, int]
    """(height, width) in pixels of what a token covers after the last pooling of pretraining."""
    mask_block: int
    """Such patches on a side of a unit."""
    num_pools: int
    """The poolings of pretraining."""


def unit_layout(hiera: Hiera, name: str) -> UnitLayout:
    """Return the layout of a Hiera's mask units.

    Args:
        hiera: The network.
        name: Its name, for messages.

    Raises:
        ValueError: It is not made for images, or its units are not those that its stages pool.
    """
    num_stages, strides = len(hiera.stage_ends), tuple(hiera.q_stride)
    pooled = tuple(stride ** (num_stages - 1) for stride in strides)
    ok = len(set(strides)) == 1 and len(strides) == 2 and hiera.pos_embed is not None
    check(ok, "model.encoder", name, "a Hiera for images, with one table of positions")
    allowed = f"{list(pooled)}, what {num_stages - 1} poolings by {strides[0]} make one token of"
    unit = tuple(hiera.mask_unit_size)
    check(unit == pooled, "model.encoder_args.mask_unit_size", list(unit), allowed)
    num_pools = hiera.q_pool - (hiera.q_pool == num_stages - 1)
    last = hiera.blocks[hiera.stage_ends[num_pools] + 1 :] if num_pools < hiera.q_pool else ()
    allowed = "false from the stage before the last on, whose windows would be single tokens"
    windows = any(block.attn.use_mask_unit_attn for block in last)
    check(not windows, "model.encoder_args.mask_unit_attn", True, allowed)
    scale = strides[0] ** num_pools
    height, width = hiera.patch_stride
    return UnitLayout((height * scale, width * scale), unit[0] // scale, num_pools)


def split_positions(hiera: Hiera, grid: Grid) -> Tensor:
    """Return positions that are split in two (https://arxiv.org/abs/2311.05613): (1, tokens, D).

    The global part is resampled, and the part of the window is the same in every unit, as its
    windows are. The formula is timm's, at every size.

    Args:
        hiera: The network.
        grid: (rows, columns) of tokens after the stem, whole units.
    """
    units = [side // unit for side, unit in zip(grid, hiera.mask_unit_size, strict=True)]
    of_image, of_window = whole_table(hiera.pos_embed), whole_table(hiera.pos_embed_win)
    table = F.interpolate(of_image, size=grid, mode="bicubic", antialias=True)
    return (table + of_window.tile(units)).flatten(2).transpose(1, 2)


class UnitEncoder:
    """Runs a Hiera on the mask units that are seen, and gives the maps that the decoder fuses.

    It has no parameters and is no module: it uses those of the network.

    Args:
        hiera: The network.
        layout: The layout of its units.
    """

    def __init__(self, hiera: Hiera, layout: UnitLayout) -> None:
        schedule, ends = hiera.unroll.schedule, hiera.stage_ends
        sides = zip(hiera.mask_unit_size, hiera.patch_stride, strict=True)
        unit_size = tuple(tokens * stride for tokens, stride in sides)
        self.unroll = Unroll(unit_size, hiera.patch_stride, schedule)
        self.reroll = Reroll(unit_size, hiera.patch_stride, schedule, ends, layout.num_pools)
        self.unpooled = ends[layout.num_pools] + 1 if layout.num_pools < hiera.q_pool else None
        self.taken = {*ends[: layout.num_pools], ends[-1]}

    def __call__(
        self, hiera: Hiera, images: Tensor, units: Tensor, positions: Tensor, grid: Grid
    ) -> list[Tensor]:
        """Encode some mask units of each image.

        Args:
            hiera: The network.
            images: (N, C, H, W).
            units: (N, K), the indices of the units that are seen, row by row.
            positions: (1, tokens, D) of all tokens of the image.
            grid: (rows, columns) of units.

        Returns:
            The maps (N, K, h, w, D) of each unit at the end of each stage that is pooled, and at
            the end of the last.
        """
        seen = torch.zeros(len(images), grid[0] * grid[1], dtype=torch.bool, device=images.device)
        seen = seen.scatter(1, units, True)
        tokens = hiera.patch_embed(images, mask=rearrange(seen, "n (r c) -> n 1 r c", r=grid[0]))
        tokens = self._take(tokens + positions, units, hiera, grid)
        maps = []
        for index, block in enumerate(hiera.blocks):
            tokens = without_pooling(block, tokens) if index == self.unpooled else block(tokens)
            if index in self.taken:
                maps.append(self.reroll(tokens, index, mask=seen))
        return maps

    def _take(self, tokens: Tensor, units: Tensor, hiera: Hiera, grid: Grid) -> Tensor:
        """Take the tokens of some units, in Hiera's order: (N, U · T, D) -> (N, T · K, D)."""
        height, width = hiera.mask_unit_size
        by_unit = rearrange(
            tokens, "n (r h c w) d -> n (r c) (h w d)", r=grid[0], c=grid[1], h=height, w=width
        )
        taken = rearrange(take_patches(by_unit, units), "n k (t d) -> (n k) t d", t=height * width)
        ordered: Tensor = self.unroll(taken)
        return rearrange(ordered, "(n k) t d -> n (t k) d", k=units.shape[1])


def without_pooling(block: HieraBlock, tokens: Tensor) -> Tensor:
    """Run a block that pools as if it did not; its parameters are the same either way."""
    stride, block.attn.q_stride = block.attn.q_stride, 1
    try:
        unpooled: Tensor = block(tokens)
    finally:
        block.attn.q_stride = stride
    return unpooled


def fusion_heads(hiera: Hiera, layout: UnitLayout) -> nn.ModuleList:
    """Create the convolutions that bring the maps of pooled stages to the size of the last.

    Source: the multi-scale fusion of Hiera's MAE. A kernel is as large as the cells of the map that
    become one.

    Args:
        hiera: The network.
        layout: The layout of its units.
    """
    width = hiera.num_features
    kernels = [hiera.q_stride[0] ** (layout.num_pools - stage) for stage in range(layout.num_pools)]
    ends = hiera.stage_ends[: layout.num_pools]
    return nn.ModuleList(
        nn.Conv2d(hiera.blocks[end].dim_out, width, kernel, kernel)
        for end, kernel in zip(ends, kernels, strict=True)
    )


def fuse(heads: nn.ModuleList, maps: list[Tensor]) -> Tensor:
    """Add the maps of all stages at the size of the last: (N, K, h, w, D) each -> the same."""
    fused = maps[-1]
    for head, one in zip(heads, maps[:-1], strict=True):
        moved = head(rearrange(one, "n k h w d -> (n k) d h w"))
        fused = fused + rearrange(moved, "(n k) d h w -> n k h w d", n=len(one))
    return fused
