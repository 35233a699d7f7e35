"""Position tables: the fixed sin-cos table of MAE, and resampling to another grid.

A grid is (rows, columns) in patches. A table is (1, P + rows · columns, D): P prefix rows (class
and register tokens) followed by the patches, row by row.
"""

from __future__ import annotations

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor

Grid = tuple[int, int]


def sincos_table(grid: Grid, dim: int, num_prefix_tokens: int = 0) -> Tensor:
    """Compute MAE's fixed table: D/4 channels each of sin and cos of the column, then of the row.

    The order of the channels is that of the reference implementation (columns first), which
    official checkpoints need. Prefix rows are zero.

    Args:
        grid: (rows, columns).
        dim: D, a multiple of 4.
        num_prefix_tokens: P.

    Returns:
        (1, P + rows · columns, D) float32.

    Raises:
        ValueError: `dim` is not a multiple of 4.
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
    """Resample a table bicubically to another grid, on the table's device.

    There is no antialiasing: a table is a smooth function of position sampled at the patches, and
    the patches of another size sample the same function at other places. (Averaging would dampen
    the short waves.)

    Args:
        table: (1, P + rows · columns of the old grid, D).
        old: The table's grid.
        new: The grid of the result.
        num_prefix_tokens: P, rows that are kept as they are.

    Returns:
        (1, P + rows · columns of the new grid, D).
    """
    resampled: Tensor = resample_abs_pos_embed(
        table, list(new), list(old), num_prefix_tokens=num_prefix_tokens, antialias=False
    )
    return resampled
