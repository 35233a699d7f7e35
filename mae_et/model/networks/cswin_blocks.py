"""The blocks of CSWin: attention in stripes of a map, with positions from a convolution of values.

Source: CSWin Transformer (https://arxiv.org/abs/2107.00652), Sections 3.2 and 3.3.

Shape legend: N images; maps (N, h, w, D) and their tokens (N, h · w, D); stripes of y × x tokens.
"""

from __future__ import annotations

import torch
from einops import rearrange
from timm.layers import DropPath, Mlp
from torch import Tensor, nn
from torch.nn import functional as F

from ..pos_embed import Grid


class StripeAttention(nn.Module):
    """Attention within stripes, or within the whole map, with a convolution of the values.

    Args:
        dim: Channels of queries, keys and values.
        num_heads: Attention heads.
        attn_drop: Dropout of the attention.
    """

    def __init__(self, dim: int, num_heads: int, attn_drop: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attn_drop = attn_drop
        self.get_v = nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim)

    def forward(self, qkv: Tensor, stripe: Grid) -> Tensor:
        """Attend within each stripe.

        Args:
            qkv: Queries, keys and values (3, N, h, w, D).
            stripe: (y, x), of which at least one is that of the map.

        Returns:
            (N, h, w, D).
        """
        height, width = qkv.shape[2:4]
        axis, whole, step = (2, height, stripe[0]) if stripe[0] < height else (3, width, stripe[1])
        rest = whole % step  # the last stripe is narrower
        parts = torch.split(qkv, [whole - rest, rest], dim=axis) if rest else [qkv]
        mixed = [self._attend(part, stripe) for part in parts]
        return torch.cat(mixed, dim=axis - 1) if rest else mixed[0]

    def _attend(self, qkv: Tensor, stripe: Grid) -> Tensor:
        sides = {"y": min(stripe[0], qkv.shape[2]), "x": min(stripe[1], qkv.shape[3])}
        num_images, rows = qkv.shape[1], qkv.shape[2] // sides["y"]
        query, key, value = rearrange(
            qkv, "k n (r y) (c x) (a d) -> k (n r c) a (y x) d", a=self.num_heads, **sides
        )
        dropout = self.attn_drop if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        local = self.get_v(rearrange(qkv[2], "n (r y) (c x) d -> (n r c) d y x", **sides))
        merged: Tensor = rearrange(mixed, "s a (y x) d -> s (a d) y x", **sides) + local
        return rearrange(merged, "(n r c) d y x -> n (r y) (c x) d", n=num_images, r=rows)


class CSWinBlock(nn.Module):
    """Attention in stripes, and an MLP.

    Args:
        dim: D.
        num_heads: Attention heads, half of them for vertical stripes and half for horizontal ones.
        stripe_width: Tokens; None for half of the map; 0 for all of it, with all heads together.
        mlp_ratio: Width of the MLP relative to D.
        qkv_bias: Whether queries, keys and values have a bias.
        proj_drop: Dropout after the attention and in the MLP.
        attn_drop: Dropout of the attention.
        drop_path: Rate of stochastic depth.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        stripe_width: int | None,
        *,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        proj_drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.stripe_width = stripe_width
        num_parts = 1 if stripe_width == 0 else 2
        if dim % num_heads or num_heads % num_parts:
            raise ValueError(
                f"num_heads of CSWinTransformer must divide {dim} channels and be even in all "
                f"stages but the last, got {num_heads}"
            )
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.attns = nn.ModuleList(
            StripeAttention(dim // num_parts, num_heads // num_parts, attn_drop)
            for _ in range(num_parts)
        )
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop=proj_drop)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """(N, h · w, D) -> likewise.

        Args:
            tokens: The tokens of a map, row by row.
            grid: (h, w).
        """
        qkv = rearrange(self.qkv(self.norm1(tokens)), "n (h w) (k d) -> k n h w d", h=grid[0], k=3)
        parts = zip(self.attns, qkv.chunk(len(self.attns), dim=-1), self.stripes(grid), strict=True)
        mixed = torch.cat([attention(part, stripe) for attention, part, stripe in parts], dim=-1)
        tokens = tokens + self.drop_path(self.proj_drop(self.proj(mixed.flatten(1, 2))))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))  # type: ignore[no-any-return]

    def stripes(self, grid: Grid) -> list[Grid]:
        """Return (y, x) of the stripes of each part of the heads: vertical ones, horizontal ones.

        Args:
            grid: (h, w) of the map.
        """
        height, width = grid
        if self.stripe_width == 0:
            return [grid]
        tall, wide = (min(self.stripe_width or -(-side // 2), side) for side in (width, height))
        return [(height, tall), (wide, width)]


class Merge(nn.Module):
    """Halve a map by a convolution, and normalise its tokens.

    Args:
        dim: Channels of the map.
        dim_out: D of the tokens.
    """

    def __init__(self, dim: int, dim_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim_out, kernel_size=3, stride=2, padding=1)
        self.norm = nn.LayerNorm(dim_out)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, h / 2, w / 2, D), rounded up."""
        return self.norm(rearrange(self.conv(maps), "n d h w -> n h w d"))  # type: ignore[no-any-return]
