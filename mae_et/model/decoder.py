"""Decoders, which predict the masked patches from the tokens of the visible ones.

- Self-attention over visible and masked patches together, as in MAE
  (https://arxiv.org/abs/2111.06377).
- Cross-attention, as in CrossMAE (Fu et al. 2024, https://arxiv.org/abs/2401.14391): masked patches
  attend to the visible ones and not to each other, so that no prediction depends on which other
  patches are decoded.

Either decoder may decode only some of the masked patches. The others are not scored at all; PR-MIM
(Li et al. 2024, https://arxiv.org/abs/2411.15746) finds that the more are left out, the more
accuracy this costs.

Shape legend: N images, T prefix tokens, K visible patches, M decoded masked ones, S tokens of a
sequence, E width.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from einops import rearrange
from timm.layers import Attention, Mlp
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import check_depths

DecoderKind = Literal["self", "cross"]


class LayerNorm(nn.LayerNorm):
    """Layer norm with the epsilon of MAE's decoder, which is also that of timm's encoders."""

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(dim, eps=1e-6, **kwargs)


class SelfDecoder(nn.ModuleList):
    """Blocks of self-attention over all tokens.

    Args:
        dim: E.
        depth: Number of blocks.
        num_heads: Attention heads, a divisor of E.
    """

    def __init__(self, dim: int, depth: int, num_heads: int) -> None:
        super().__init__(SelfBlock(dim, num_heads) for _ in range(depth))
        self.num_heads = num_heads

    def forward(self, context: Tensor, queries: Tensor, num_outputs: int) -> Tensor:
        """Decode the mask tokens together with the tokens of the visible patches.

        Args:
            context: Prefix tokens and visible patches, (N, T + K, E).
            queries: Mask tokens, (N, M, E).
            num_outputs: How many tokens to return; the last block computes no others.

        Returns:
            The last tokens of the sequence, (N, num_outputs, E).
        """
        tokens = torch.cat([context, queries], dim=1)
        for index, block in enumerate(self, start=1):
            tokens = block(tokens, num_outputs if index == len(self) else tokens.shape[1])
        return tokens[:, -num_outputs:]


class SelfBlock(nn.Module):
    """timm's transformer block, which computes only the tokens that are asked for.

    Args:
        dim: E.
        num_heads: Attention heads, a divisor of E.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = Attention(dim, num_heads, qkv_bias=True)
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, tokens: Tensor, num_outputs: int) -> Tensor:
        """Compute the last tokens, which attend to all: (N, S, E) -> (N, num_outputs, E)."""
        query, key, value = (
            rearrange(part, "n s (h d) -> n h s d", h=self.attn.num_heads)
            for part in self.attn.qkv(self.norm1(tokens)).chunk(3, dim=-1)
        )
        attended = F.scaled_dot_product_attention(query[:, :, -num_outputs:], key, value)
        attended = self.attn.proj(rearrange(attended, "n h s d -> n s (h d)"))
        tokens = tokens[:, -num_outputs:] + attended
        decoded: Tensor = tokens + self.mlp(self.norm2(tokens))
        return decoded


class CrossDecoder(nn.ModuleList):
    """Blocks of cross-attention from the mask tokens to the output of the encoder's last layer.

    All blocks see the same tokens, with the decoder's positions added. (CrossMAE projects keys and
    values from the encoder's width instead, and gives each block a different mix of its layers.)

    Args:
        dim: E.
        depth: Number of blocks.
        num_heads: Attention heads, a divisor of E.
    """

    def __init__(self, dim: int, depth: int, num_heads: int) -> None:
        super().__init__(CrossBlock(dim, num_heads) for _ in range(depth))
        self.num_heads = num_heads

    def forward(self, context: Tensor, queries: Tensor, num_outputs: int) -> Tensor:
        """Decode the mask tokens, each by itself.

        Args:
            context: Prefix tokens and visible patches, (N, T + K, E).
            queries: Mask tokens, (N, M, E).
            num_outputs: Ignored; `SelfDecoder` needs it.

        Returns:
            The decoded mask tokens, (N, M, E).
        """
        for block in self:
            queries = block(queries, context)
        return queries


class CrossBlock(nn.Module):
    """timm's transformer block with cross-attention in place of self-attention.

    Args:
        dim: E.
        num_heads: Attention heads, a divisor of E.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """Let queries (N, M, E) attend to the context (N, T + K, E); return (N, M, E)."""
        attended, _ = self.attn(self.norm1(queries), context, context, need_weights=False)
        queries = queries + attended
        decoded: Tensor = queries + self.mlp(self.norm2(queries))
        return decoded


def create_decoder(
    kind: DecoderKind, *, dim: int, depth: int, num_heads: int
) -> SelfDecoder | CrossDecoder:
    """Create the blocks of a decoder.

    Args:
        kind: "self" or "cross".
        dim: E.
        depth: Number of blocks; at least 1 for cross-attention.
        num_heads: Attention heads, a divisor of E.

    Raises:
        ValueError: A value is out of its range.
    """
    check_depths("model", {"decoder_depth": depth})
    if num_heads < 1 or dim % num_heads:
        raise ValueError(
            f"model.decoder_num_heads must divide model.decoder_dim {dim}, got {num_heads}"
        )
    if kind not in ("self", "cross"):
        raise ValueError(f"model.decoder must be 'self' or 'cross', got {kind!r}")
    if kind == "cross" and depth < 1:
        raise ValueError(
            f"model.decoder_depth must be at least 1 with model.decoder 'cross', got {depth}"
        )
    return (CrossDecoder if kind == "cross" else SelfDecoder)(dim, depth, num_heads)
