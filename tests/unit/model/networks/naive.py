"""The attention of CSWin and PVT in plain loops, and the tensors of the originals by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Shapes = dict[str, tuple[int, ...]]


def softmax_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(L, d), (M, d), (M, d) -> (L, d): one head of one image."""
    scores = query @ key.T / query.shape[1] ** 0.5
    weights = scores.exp() / scores.exp().sum(1, keepdim=True)
    return weights @ value


def cswin_attention(
    block: Any, tokens: Tensor, grid: tuple[int, int], widths: tuple[int, int] | None
) -> Tensor:
    """What a block of CSWin adds by attention: (N, h · w, D) of the normalised tokens.

    Vertical and horizontal stripes are `widths` tokens wide, the last one what is left; None for
    the whole map.
    """
    num_heads = sum(attention.num_heads for attention in block.attns)
    size = tokens.shape[-1] // num_heads  # of a head
    mixed = torch.zeros_like(tokens).unflatten(1, grid)
    for image, normed in enumerate(block.norm1(tokens)):
        query, key, value = (
            F.linear(normed, weight, bias).unflatten(0, grid)
            for weight, bias in zip(block.qkv.weight.chunk(3), block.qkv.bias.chunk(3), strict=True)
        )
        for head in range(num_heads):
            part, inner = divmod(head, block.attns[0].num_heads)
            channels = slice(head * size, (head + 1) * size)
            own = slice(inner * size, (inner + 1) * size)
            stripes = [(slice(None), slice(None))]
            if widths is not None:
                width = widths[part]
                cuts = [slice(at, at + width) for at in range(0, grid[1 - part], width)]
                stripes = [(slice(None), cut) if part == 0 else (cut, slice(None)) for cut in cuts]
            for rows, cols in stripes:
                q, k, v = (one[rows, cols, channels] for one in (query, key, value))
                attended = softmax_attention(*(one.flatten(0, 1) for one in (q, k, v)))
                conv = block.attns[part].get_v
                local = F.conv2d(
                    v.permute(2, 0, 1)[None],
                    conv.weight[own],
                    conv.bias[own],
                    padding=1,
                    groups=size,
                )[0].permute(1, 2, 0)
                mixed[image, rows, cols, channels] = attended.reshape(v.shape) + local
    return block.proj(mixed.flatten(1, 2))


def pvt_attention(attention: Any, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """The attention of PVT, (N, P + h · w, D), with one key and value per region, in loops."""
    ratio, dim = attention.sr_ratio, tokens.shape[-1]
    size = dim // attention.num_heads
    mixed = torch.zeros_like(tokens)
    for image, own in enumerate(tokens):
        regions = own
        if ratio > 1:
            map_ = own.unflatten(0, grid)
            kernel = attention.sr.weight.permute(0, 2, 3, 1).flatten(1)  # (D, ratio · ratio · D)
            regions = torch.stack(
                [
                    kernel @ map_[y : y + ratio, x : x + ratio].flatten() + attention.sr.bias
                    for y in range(0, grid[0], ratio)
                    for x in range(0, grid[1], ratio)
                ]
            )
            regions = attention.norm(regions)
        key_value = attention.kv(regions)
        query, key, value = attention.q(own), key_value[:, :dim], key_value[:, dim:]
        for head in range(attention.num_heads):
            channels = slice(head * size, (head + 1) * size)
            mixed[image, :, channels] = softmax_attention(
                *(one[:, channels] for one in (query, key, value))
            )
    return attention.proj(mixed)


def layer(name: str, *shape: int) -> Shapes:
    """A weight and a bias, whose length is the first side of the weight."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def cswin_tensors(dim: int, depths: tuple[int, ...], num_classes: int = 1000) -> Shapes:
    """The tensors of the original CSWin at 224 pixels."""
    tensors = layer("stage1_conv_embed.0", dim, 3, 7, 7) | layer("stage1_conv_embed.2", dim)
    for stage, depth in enumerate(depths, start=1):
        if stage > 1:
            tensors |= layer(f"merge{stage - 1}.conv", 2 * dim, dim, 3, 3)
            dim = 2 * dim
            tensors |= layer(f"merge{stage - 1}.norm", dim)
        for number in range(depth):
            block = f"stage{stage}.{number}"
            tensors |= layer(f"{block}.norm1", dim) | layer(f"{block}.norm2", dim)
            tensors |= layer(f"{block}.qkv", 3 * dim, dim) | layer(f"{block}.proj", dim, dim)
            tensors |= layer(f"{block}.mlp.fc1", 4 * dim, dim)
            tensors |= layer(f"{block}.mlp.fc2", dim, 4 * dim)
            parts = 1 if stage == 4 else 2
            for part in range(parts):
                tensors |= layer(f"{block}.attns.{part}.get_v", dim // parts, 1, 3, 3)
    return tensors | layer("norm", dim) | layer("head", num_classes, dim)


def pvt_tensors(depths: tuple[int, ...], num_classes: int = 1000) -> Shapes:
    """The tensors of the original PVT at 224 pixels."""
    dims, ratios, widths, grids = (64, 128, 320, 512), (8, 4, 2, 1), (8, 8, 4, 4), (56, 28, 14, 7)
    tensors: Shapes = {"cls_token": (1, 1, 512)}
    before = 3
    for stage, (dim, ratio, width, grid) in enumerate(
        zip(dims, ratios, widths, grids, strict=True), start=1
    ):
        patch = 4 if stage == 1 else 2
        tensors[f"pos_embed{stage}"] = (1, grid * grid + (stage == 4), dim)
        tensors |= layer(f"patch_embed{stage}.proj", dim, before, patch, patch)
        tensors |= layer(f"patch_embed{stage}.norm", dim)
        for number in range(depths[stage - 1]):
            block = f"block{stage}.{number}"
            tensors |= layer(f"{block}.norm1", dim) | layer(f"{block}.norm2", dim)
            tensors |= layer(f"{block}.attn.q", dim, dim) | layer(f"{block}.attn.kv", 2 * dim, dim)
            tensors |= layer(f"{block}.attn.proj", dim, dim)
            if ratio > 1:
                tensors |= layer(f"{block}.attn.sr", dim, dim, ratio, ratio)
                tensors |= layer(f"{block}.attn.norm", dim)
            tensors |= layer(f"{block}.mlp.fc1", width * dim, dim)
            tensors |= layer(f"{block}.mlp.fc2", dim, width * dim)
        before = dim
    return tensors | layer("norm", 512) | layer("head", num_classes, 512)
