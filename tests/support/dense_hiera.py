"""A naive masked autoencoder over Hiera: all units are computed, in place, and masks do the rest.

It is written from the paper (https://arxiv.org/abs/2306.00989, Section 3) and shares no code with
the model but its weights: maps stay in the order of the image, attention has a mask of who may see
whom, and pooling is a maximum over neighbours. What masked units compute reaches no other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def dense_hiera(model: Any, images: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss (), and the predictions (N, L, P) of all patches.

    Args:
        model: A masked autoencoder over Hiera, whose target is normalised pixels.
        images: (N, C, H, W).
        seen: (N, rows, columns) bool, the mask units that are visible.
    """
    weights = dict(model.named_parameters())
    hiera, grid = model.encoder, model.grid
    block = grid[0] // seen.shape[1]
    shown = enlarge(seen, images.shape[-2] // seen.shape[1], images.shape[-1] // seen.shape[2])
    tokens = F.conv2d(
        images * shown[:, None],
        weights["encoder.patch_embed.proj.weight"],
        weights["encoder.patch_embed.proj.bias"],
        stride=hiera.patch_embed.proj.stride,
        padding=hiera.patch_embed.proj.padding,
    ).permute(0, 2, 3, 1)
    tokens = tokens + positions(model, tokens.shape[1], tokens.shape[2], seen.shape[1:])

    maps = []
    for index in range(len(hiera.blocks)):
        pools = hiera.blocks[index].attn.q_stride > 1 and tokens.shape[1] > grid[0]
        tokens = run_block(model, f"encoder.blocks.{index}.", tokens, seen, index, pools)
        if index in hiera.stage_ends:
            maps.append(tokens)
    fused = maps[-1]
    for stage in range(len(model.decoder_fusion)):
        head = f"decoder_fusion.{stage}."
        kernel = maps[stage].shape[1] // grid[0]
        weight, bias = weights[head + "weight"], weights[head + "bias"]
        moved = F.conv2d(maps[stage].permute(0, 3, 1, 2), weight, bias, stride=kernel)
        fused = fused + moved.permute(0, 2, 3, 1)
    latent = norm(weights, "encoder.head.norm.", fused).flatten(1, 2)

    visible = enlarge(seen, block, block).flatten(1)[..., None]
    latent = latent @ weights["decoder_embed.weight"].T + weights["decoder_embed.bias"]
    tokens = torch.where(visible, latent, weights["mask_token"])
    tokens = tokens + resample(weights["decoder_pos_embed"], model.full_grid, grid)
    for index in range(len(model.decoder_blocks)):
        name, heads = f"decoder_blocks.{index}.", model.decoder_blocks.num_heads
        normed = norm(weights, name + "norm1.", tokens)
        query, key, value = split(weights, name + "attn.qkv.", normed, heads)
        tokens = tokens + project(weights, name + "attn.proj.", attend(query, key, value, None))
        tokens = tokens + mlp(weights, name, tokens)
    tokens = norm(weights, "decoder_norm.", tokens)
    predictions = tokens @ weights["decoder_pred.weight"].T + weights["decoder_pred.bias"]

    height, width = model.patch_size
    patches = images.unfold(2, height, height).unfold(3, width, width)
    patches = patches.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    errors = (predictions - (patches - mean) / (variance + 1e-6).sqrt()).square().mean(-1)
    return errors[~visible[..., 0]].mean(), predictions


def run_block(
    model: Any, name: str, tokens: Tensor, seen: Tensor, index: int, pools: bool
) -> Tensor:
    """Compute a block of the encoder on a whole map: (N, h, w, D) -> (N, h', w', D')."""
    weights, block = dict(model.named_parameters()), model.encoder.blocks[index]
    rows, columns = tokens.shape[1:3]
    unit_rows, unit_columns = (
        torch.arange(rows) // (rows // seen.shape[1]),
        torch.arange(columns) // (columns // seen.shape[2]),
    )
    units = (unit_rows[:, None] * seen.shape[2] + unit_columns).flatten()
    may_see = seen.flatten(1)[:, units][:, None, :].expand(-1, len(units), -1)
    if block.attn.use_mask_unit_attn:  # masked units see themselves, so that rows are not empty
        may_see = (units[:, None] == units)[None].expand(len(seen), -1, -1)

    normed = norm(weights, name + "norm1.", tokens)
    kept = tokens
    if block.proj is not None:
        kept = pool(project(weights, name + "proj.", normed), pools)
    query, key, value = split(weights, name + "attn.qkv.", normed.flatten(1, 2), block.attn.heads)
    if pools:
        maps = query.transpose(1, 2).unflatten(1, (rows, columns))  # (N, h, w, heads, d)
        query = pool(maps.flatten(3), True).flatten(1, 2).unflatten(2, maps.shape[3:])
        query = query.transpose(1, 2)
        chosen = torch.arange(rows * columns).view(rows, columns)[::2, ::2].flatten()
        may_see = may_see[:, chosen]
    attended = attend(query, key, value, may_see[:, None])
    kept = kept + project(weights, name + "attn.proj.", attended).view(*kept.shape)
    return kept + mlp(weights, name, kept)


def pool(maps: Tensor, pools: bool) -> Tensor:
    """Take the maximum of each 2 × 2 cells: (N, h, w, D)."""
    if not pools:
        return maps
    corners = [maps[:, row::2, column::2] for row in range(2) for column in range(2)]
    return torch.stack(corners).amax(0)


def positions(model: Any, rows: int, columns: int, units: tuple[int, ...]) -> Tensor:
    """The positions (1, h, w, D) of the tokens after the stem."""
    hiera = model.encoder
    if hiera.pos_embed_win is None:
        cells = model.patch_size[0] // hiera.patch_stride[0]
        full = (model.full_grid[0] * cells, model.full_grid[1] * cells)
        return resample(hiera.pos_embed, full, (rows, columns)).unflatten(1, (rows, columns))
    table = F.interpolate(hiera.pos_embed, (rows, columns), mode="bicubic", antialias=True)
    window = torch.cat([hiera.pos_embed_win] * units[0], 2)
    return (table + torch.cat([window] * units[1], 3)).permute(0, 2, 3, 1)


def resample(table: Tensor, full: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Resample a table (1, R, D) bicubically from a full grid to another."""
    maps = table.unflatten(1, full).permute(0, 3, 1, 2)
    return F.interpolate(maps, grid, mode="bicubic").permute(0, 2, 3, 1).flatten(1, 2)


def enlarge(cells: Tensor, height: int, width: int) -> Tensor:
    """Repeat each cell of (N, r, c) height × width times."""
    return cells.repeat_interleave(height, 1).repeat_interleave(width, 2)


def norm(weights: dict[str, Any], name: str, tokens: Tensor) -> Tensor:
    """Normalise the last axis."""
    centred = tokens - tokens.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return centred / deviation * weights[name + "weight"] + weights[name + "bias"]


def project(weights: dict[str, Any], name: str, tokens: Tensor) -> Tensor:
    """Apply a linear layer."""
    return tokens @ weights[name + "weight"].T + weights[name + "bias"]


def split(weights: dict[str, Any], name: str, tokens: Tensor, heads: int) -> Any:
    """Return query, key and value, each (N, heads, tokens, d)."""
    parts = project(weights, name, tokens).unflatten(2, (3, heads, -1))
    return parts.permute(2, 0, 3, 1, 4).unbind(0)


def attend(query: Tensor, key: Tensor, value: Tensor, may_see: Tensor | None) -> Tensor:
    """Attend with a mask of who may see whom: (N, heads, T, d) -> (N, T, heads · d)."""
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    if may_see is not None:
        scores = scores.masked_fill(~may_see, -torch.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)


def mlp(weights: dict[str, Any], name: str, tokens: Tensor) -> Tensor:
    """The second half of a block, without what is added to it."""
    hidden = F.gelu(project(weights, name + "mlp.fc1.", norm(weights, name + "norm2.", tokens)))
    return project(weights, name + "mlp.fc2.", hidden)
