"""Parameters that follow a network's input size: position tables and relative position biases.

Shape legend: tables of R rows (a grid and possibly others) and D channels.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..curriculum import as_pair
from .pos_embed import Grid, resample_table


class Table(NamedTuple):
    """How to resample a table over a grid; rows of tokens before and after the grid are kept."""

    full_grid: Grid
    """The grid at the full size."""
    grid: Grid
    """The grid at the size to resample to."""
    num_prefix: int
    """Rows before the grid."""

    def resample(self, table: Tensor) -> Tensor:
        """Resample a table, (1, R, D) or (R, D), from the full grid to this one."""
        rows = table if table.ndim == 3 else table[None]
        end = self.num_prefix + math.prod(self.full_grid)
        resampled = resample_table(rows[:, :end], self.full_grid, self.grid, self.num_prefix)
        resampled = torch.cat([resampled, rows[:, end:]], dim=1)
        return resampled if table.ndim == 3 else resampled[0]


def match_tables(
    model: nn.Module, twin: nn.Module, full_size: tuple[int, int], size: tuple[int, int]
) -> dict[str, Table | None]:
    """Match the tensors of a model to those of its twin, the same network at another size.

    Args:
        model: The model at its full size.
        twin: The network at the other size.
        full_size: (height, width) in pixels.
        size: (height, width) in pixels of the twin's images.

    Returns:
        For each tensor that the model saves, by name, how to resample it for the twin; None for a
        tensor that has the same shape at both sizes and is used as it is.

    Raises:
        ValueError: A parameter follows the size but is not a table known here.
    """
    if [name for name, _ in model.named_modules()] != [name for name, _ in twin.named_modules()]:
        raise ValueError("other modules than at the full size")
    saved = model.state_dict().keys()
    full_tensors, tensors = named_tensors(model), named_tensors(twin)
    tables: dict[str, Table | None] = {}
    for name in [name for name in full_tensors if name in saved]:
        shapes = [list(every[name].shape) for every in (full_tensors, tensors) if name in every]
        if len(shapes) == 2 and shapes[0] == shapes[1]:
            tables[name] = None
        elif isinstance(full_tensors[name], nn.Parameter):
            tables[name] = _table(name, model, twin, full_size, size)
            if tables[name] is None:
                raise ValueError(
                    f"can't resample parameter {name}, {' -> '.join(map(str, shapes))}"
                )
        # A buffer of another shape is an index or a mask: the twin keeps its own.
    return tables


def _table(
    name: str,
    model: nn.Module,
    twin: nn.Module,
    full_size: tuple[int, int],
    size: tuple[int, int],
) -> Table | None:
    """How a parameter follows from its full-size counterpart; None if that is unknown."""
    (full_owner, leaf), (owner, _) = find(model, name), find(twin, name)
    full, new = getattr(full_owner, leaf), getattr(owner, leaf, None)
    if new is None or full.ndim != new.ndim or full.shape[-1] != new.shape[-1]:
        return None
    full_rows, rows = full.shape[-2], new.shape[-2]
    if leaf.endswith("pos_embed") and full.ndim == 3 and full_rows > rows:
        full_grid, grid = _patch_grids(full_owner, owner, full_size, size, full_rows - rows)
        num_prefix = full_rows - math.prod(full_grid)
    elif leaf.endswith("relative_position_bias_table") and full.ndim == 2:
        full_grid, grid = _offsets(full_owner, full_rows), _offsets(owner, rows)
        num_prefix = 0
    else:
        return None
    num_others = full_rows - math.prod(full_grid)
    if num_others < 0 or num_others != rows - math.prod(grid):
        return None
    return Table(full_grid, grid, num_prefix)


def _patch_grids(
    full_owner: Any, owner: Any, full_size: tuple[int, int], size: tuple[int, int], num_fewer: int
) -> tuple[Grid, Grid]:
    """The grids of patches at both sizes.

    They are those that timm records, or else those of square patches whose size explains how many
    fewer patches the smaller image has.
    """
    try:
        return full_owner.patch_embed.grid_size, owner.patch_embed.grid_size
    except AttributeError:
        patch = math.sqrt((math.prod(full_size) - math.prod(size)) / num_fewer)
        full_grid, grid = (
            (int(height / patch), int(width / patch)) for height, width in (full_size, size)
        )
        return full_grid, grid


def _offsets(attention: nn.Module, rows: int) -> Grid:
    """The grid (2h - 1, 2w - 1) of offsets in an h × w window; a square one if none is recorded."""
    window_size = getattr(attention, "window_size", None)
    if window_size is None:
        return math.isqrt(rows), math.isqrt(rows)
    height, width = as_pair(window_size)
    return 2 * height - 1, 2 * width - 1


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers by name, tied ones under each of their names."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def find(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Return the module that holds a tensor, and the tensor's name there.

    Args:
        module: The module in which to look.
        name: The tensor's dotted name in it.
    """
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf
