"""Position tables: the fixed sin-cos table of MAE, and its resampling to another grid.

A grid is (rows, columns) in patches. A table is (1, P + rows · columns, D): P prefix rows (class
and register tokens) followed by the patches, row by row.
"""

from __future__ import annotations

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor

Grid = tuple[int, int]


def sincos_table(grid: Grid, dim: int, num_prefix_tokens: int = 0) -> Tensor:
    """The fixed table of MAE: D/4 each of sin and cos of the column, then sin and cos of the row.

    The order of the channels is that of the reference implementation (columns first), which
    official checkpoints need. Prefix rows are zero.

    Args:
        grid: (rows, columns).
        dim: D, a multiple of 4.
        num_prefix_tokens: P.

    Returns:
        (1, P + rows · columns, D) float32.

    Raises:
        ValueError: `dim` is no multiple of 4.
    """
    if dim % 4:
        raise ValueError(
            f"the width of a sin-cos position table must be a multiple of 4, got {dim}"
        )
    frequencies = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    rows, columns = torch.meshgrid(
        torch.arange(grid[0], dtype=torch.float64),
        torch.arange(grid[1], dtype=torch.float64),
        indexing="ij",
    )
    table = torch.cat(
        [
            wave(position.reshape(-1, 1) * frequencies)
            for position in (columns, rows)
            for wave in (torch.sin, torch.cos)
        ],
        dim=1,
    )
    return torch.cat([torch.zeros(num_prefix_tokens, dim), table.float()])[None]


def resample_table(table: Tensor, old: Grid, new: Grid, num_prefix_tokens: int) -> Tensor:
    """Resample a table bicubically to another grid, on its device; prefix rows are kept.

    Not antialiased: a table is a smooth function of position sampled at the patches, and the
    stage's patches sample the same function elsewhere. (Averaging would shorten the short waves.)
    """
    resampled: Tensor = resample_abs_pos_embed(
        table, list(new), list(old), num_prefix_tokens=num_prefix_tokens, antialias=False
    )
    return resampled
