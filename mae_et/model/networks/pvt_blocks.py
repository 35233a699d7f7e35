"""The blocks of PVT: attention of all tokens to a smaller map, and patches.

Source: Pyramid Vision Transformer (https://arxiv.org/abs/2102.12122), Section 3.3.

Shape legend: N images; maps (N, D, h, w); tokens (N, P + h · w, D), of which P have no place.
"""

from __future__ import annotations

from typing import Any

from einops import rearrange
from timm.layers import DropPath, Mlp
from torch import Tensor, nn
from torch.nn import functional as F

from ..pos_embed import Grid
from .pyramid import as_maps


class ReducedAttention(nn.Module):
    """Attention of all tokens to a map whose sides are `sr_ratio` times smaller.

    Args:
        dim: D.
        num_heads: Attention heads.
        sr_ratio: Side, in tokens, of the square regions that give one key and value each.
        qkv_bias: Whether queries, keys and values have a bias.
        proj_drop: Dropout after the attention.
        attn_drop: Dropout of the attention.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        sr_ratio: int,
        *,
        qkv_bias: bool = True,
        proj_drop: float = 0.0,
        attn_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.sr_ratio = sr_ratio
        self.attn_drop = attn_drop
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.kv = nn.Linear(dim, 2 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        if sr_ratio > 1:
            self.sr = nn.Conv2d(dim, dim, kernel_size=sr_ratio, stride=sr_ratio)
            self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """(N, P + h · w, D) -> likewise; with `sr_ratio` above 1, P is 0.

        Args:
            tokens: The tokens of a map, row by row.
            grid: (h, w).
        """
        reduced = tokens
        if self.sr_ratio > 1:
            maps = self.sr(as_maps(tokens, grid))
            reduced = self.norm(rearrange(maps, "n d h w -> n (h w) d"))
        query = rearrange(self.q(tokens), "n l (a d) -> n a l d", a=self.num_heads)
        key, value = rearrange(self.kv(reduced), "n l (k a d) -> k n a l d", k=2, a=self.num_heads)
        dropout = self.attn_drop if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        mixed = self.proj(rearrange(mixed, "n a l d -> n l (a d)"))
        return self.proj_drop(mixed)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and an MLP; arguments are those of `ReducedAttention`, and two more.

    Args:
        dim: D.
        num_heads: Attention heads.
        sr_ratio: As in `ReducedAttention`.
        mlp_ratio: Width of the MLP relative to D.
        drop_path: Rate of stochastic depth.
        proj_drop: Dropout after the attention and in the MLP.
        attention: Further arguments of `ReducedAttention`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        sr_ratio: int,
        *,
        mlp_ratio: float,
        drop_path: float,
        proj_drop: float,
        **attention: Any,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = ReducedAttention(dim, num_heads, sr_ratio, proj_drop=proj_drop, **attention)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop=proj_drop)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """(N, P + h · w, D) -> likewise, of a map of grid (h, w)."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), grid))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))  # type: ignore[no-any-return]


class Patches(nn.Module):
    """Embed the patches of a map, and normalise them.

    Args:
        in_chans: C.
        dim: D.
        patch_size: (height, width).
    """

    def __init__(self, in_chans: int, dim: int, patch_size: Grid) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, kernel_size=patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(dim)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, h, w, D)."""
        return self.norm(rearrange(self.proj(maps), "n d h w -> n h w d"))  # type: ignore[no-any-return]
