"""Decoders: what predicts the masked patches from the tokens of the visible ones.

- Self-attention over visible and masked patches together, as in MAE
  (https://arxiv.org/abs/2111.06377).
- Cross-attention, as in CrossMAE (Fu et al. 2024, https://arxiv.org/abs/2401.14391): masked patches
  ask the visible ones and not each other, so none depends on which others are decoded.

Either may decode a part of the masked patches. The rest is not scored at all: PR-MIM (Li et al.
2024, https://arxiv.org/abs/2411.15746) finds that this costs accuracy the more are left out.

Shape legend: N images, T prefix tokens, K visible patches, M decoded masked ones, E width.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from einops import rearrange
from timm.layers import Attention, Mlp
from torch import Tensor, nn
from torch.nn import functional as F

DecoderKind = Literal["self", "cross"]


class LayerNorm(nn.LayerNorm):
    """Layer norm with the epsilon of MAE's decoder (and of timm's encoders)."""

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(dim, eps=1e-6, **kwargs)


class SelfDecoder(nn.ModuleList):
    """Blocks of self-attention over all tokens."""

    def __init__(self, dim: int, depth: int, num_heads: int) -> None:
        super().__init__(SelfBlock(dim, num_heads) for _ in range(depth))
        self.num_heads = num_heads

    def forward(self, context: Tensor, queries: Tensor, num_outputs: int) -> Tensor:
        """Tokens (N, T + K, E) and mask tokens (N, M, E) -> the last of them, (N, num_outputs, E).

        The last block does not compute the others.
        """
        tokens = torch.cat([context, queries], dim=1)
        for index, block in enumerate(self, start=1):
            tokens = block(tokens, num_outputs if index == len(self) else tokens.shape[1])
        return tokens[:, -num_outputs:]


class SelfBlock(nn.Module):
    """timm's block, but what nobody asks for is left out."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = Attention(dim, num_heads, qkv_bias=True)
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, tokens: Tensor, num_outputs: int) -> Tensor:
        """(N, S, E) -> (N, num_outputs, E): the last tokens, which attend to all."""
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
    """Blocks of cross-attention from the mask tokens to the encoder's last layer.

    All blocks see the same tokens, with the decoder's positions added. (CrossMAE projects keys and
    values from the encoder's own width, and mixes its layers anew for each block.)
    """

    def __init__(self, dim: int, depth: int, num_heads: int) -> None:
        super().__init__(CrossBlock(dim, num_heads) for _ in range(depth))
        self.num_heads = num_heads

    def forward(self, context: Tensor, queries: Tensor, num_outputs: int) -> Tensor:
        """Tokens (N, T + K, E) and mask tokens (N, M, E) -> (N, M, E), and never more."""
        for block in self:
            queries = block(queries, context)
        return queries


class CrossBlock(nn.Module):
    """timm's block with cross-attention in the place of self-attention."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """(N, M, E) and (N, T + K, E) -> (N, M, E)."""
        attended, _ = self.attn(self.norm1(queries), context, context, need_weights=False)
        queries = queries + attended
        decoded: Tensor = queries + self.mlp(self.norm2(queries))
        return decoded


def create_decoder(
    kind: DecoderKind, *, dim: int, depth: int, num_heads: int
) -> SelfDecoder | CrossDecoder:
    """The blocks of a decoder.

    Args:
        kind: "self" or "cross".
        dim: E.
        depth: blocks; at least 1 for cross-attention.
        num_heads: attention heads, a divisor of E.

    Raises:
        ValueError: a value is out of its range.
    """
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
