"""Random masking of patches, one by one or in blocks.

Sources: MAE (https://arxiv.org/abs/2111.06377, Section 3) masks single patches. Pixio
(https://arxiv.org/abs/2512.15715) masks square blocks of them, so that a masked patch can't be
copied from a visible one beside it; Hiera (https://arxiv.org/abs/2306.00989) masks what its windows
hold.

Shape legend: N images, L patches, K visible patches, U mask units (patches, or blocks of B × B
patches), D features. True means masked.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from ..curriculum import Size
from ..errors import check
from .pos_embed import Grid


class PatchMask(NamedTuple):
    """Which patches of each image are visible and which are masked."""

    visible: Tensor
    """(N, K): the indices of the visible patches; those of a block one after another."""
    masked: Tensor
    """(N, L - K): the indices of the masked patches, in ascending order of their noise."""
    mask: Tensor
    """(N, L) bool, True where masked."""


def num_visible_patches(num_patches: int, mask_ratio: float, mask_block: int = 1) -> int:
    """Return K: B² for each whole unit of U · (1 - mask ratio).

    Args:
        num_patches: L, a multiple of B².
        mask_ratio: Share of masked units, in (0, 1).
        mask_block: B, the patches on a side of a unit.

    Raises:
        ValueError: The mask ratio is outside (0, 1), or no patch would be visible.
    """
    if not 0 < mask_ratio < 1:
        raise ValueError(f"model.mask_ratio must be in (0, 1), got {mask_ratio}")
    num_units = num_patches // mask_block**2
    num_visible = int(num_units * (1 - mask_ratio))
    if num_visible < 1:
        unit = "patch" if mask_block == 1 else f"block of {mask_block} x {mask_block} patches"
        raise ValueError(
            f"model.mask_ratio {mask_ratio} leaves no visible {unit} of {num_units}; "
            f"allowed: at most {math.ceil(1e3 * (1 - 1 / num_units) - 1) / 1e3}"
        )
    return num_visible * mask_block**2  # always below L, since the ratio is positive


def check_mask_block(mask_block: int, grid: Grid, size: Size) -> None:
    """Check that a grid is of at least two whole mask units.

    Args:
        mask_block: Patches on a side of a mask unit.
        grid: (rows, columns) of patches.
        size: The image size in pixels, for the message.

    Raises:
        ValueError: It is not; the message says which blocks fit.
    """
    fitting = [
        block
        for block in range(1, min(grid) + 1)
        if not (grid[0] % block or grid[1] % block) and grid[0] * grid[1] >= 2 * block**2
    ]
    allowed = f"one of {', '.join(map(str, fitting))}, which divide the {grid[0]} x {grid[1]} "
    allowed += f"patches of model.image_size {size} into two or more"
    check(mask_block == 1 or mask_block in fitting, "model.mask_block", mask_block, allowed)


def mask_patches(noise: Tensor, num_visible: int) -> PatchMask:
    """Mask all patches of each image but the `num_visible` ones with the smallest noise.

    Args:
        noise: (N, L).
        num_visible: K, in [1, L).
    """
    order = noise.argsort(dim=1)
    visible, masked = order[:, :num_visible], order[:, num_visible:]
    mask = torch.ones_like(noise, dtype=torch.bool).scatter_(1, visible, False)
    return PatchMask(visible, masked, mask)


def mask_blocks(noise: Tensor, num_visible: int, grid: Grid, mask_block: int) -> PatchMask:
    """Mask all blocks of patches of each image but those with the smallest noise.

    Args:
        noise: (N, U), one value for each block, row by row.
        num_visible: K, a multiple of B².
        grid: (rows, columns) of patches, multiples of B.
        mask_block: B, the patches on a side of a block.
    """
    units = mask_patches(noise, num_visible // mask_block**2)
    if mask_block == 1:
        return units
    patches = patches_of_blocks(grid, mask_block, noise.device)
    visible, masked = patches[units.visible].flatten(1), patches[units.masked].flatten(1)
    mask = torch.ones(len(noise), patches.numel(), dtype=torch.bool, device=noise.device)
    return PatchMask(visible, masked, mask.scatter_(1, visible, False))


def patches_of_blocks(grid: Grid, mask_block: int, device: torch.device | None = None) -> Tensor:
    """Return the indices of the patches of each block, row by row: (U, B²)."""
    rows, columns = (side // mask_block for side in grid)
    indices = torch.arange(grid[0] * grid[1], device=device)
    return rearrange(
        indices, "(r h s w) -> (r s) (h w)", r=rows, s=columns, h=mask_block, w=mask_block
    )


def take_patches(patches: Tensor, indices: Tensor) -> Tensor:
    """Select patches of each image by their indices: (N, L, D), (N, K) -> (N, K, D)."""
    return patches.gather(1, indices[..., None].expand(-1, -1, patches.shape[-1]))
