"""Random masking of patches (MAE, https://arxiv.org/abs/2111.06377, Section 3).

Shape legend: N images, L patches, K visible patches, D features. True means masked.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class PatchMask(NamedTuple):
    """Which patches of each image are visible and which are masked."""

    visible: Tensor
    """(N, K): the indices of the visible patches."""
    masked: Tensor
    """(N, L - K): the indices of the masked patches, in ascending order of their noise."""
    mask: Tensor
    """(N, L) bool, True where masked."""


def num_visible_patches(num_patches: int, mask_ratio: float) -> int:
    """Return K, the number of patches that stay visible: the whole part of L · (1 - mask ratio).

    Args:
        num_patches: L.
        mask_ratio: Share of masked patches, in (0, 1).

    Raises:
        ValueError: The mask ratio is outside (0, 1), or no patch would be visible.
    """
    if not 0 < mask_ratio < 1:
        raise ValueError(f"model.mask_ratio must be in (0, 1), got {mask_ratio}")
    num_visible = int(num_patches * (1 - mask_ratio))
    if num_visible < 1:
        raise ValueError(
            f"model.mask_ratio {mask_ratio} leaves no visible patch of {num_patches}; "
            f"allowed: at most {math.ceil(1e3 * (1 - 1 / num_patches) - 1) / 1e3}"
        )
    return num_visible  # always below num_patches, since the ratio is positive


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


def take_patches(patches: Tensor, indices: Tensor) -> Tensor:
    """Select patches of each image by their indices: (N, L, D), (N, K) -> (N, K, D)."""
    return patches.gather(1, indices[..., None].expand(-1, -1, patches.shape[-1]))
