"""A windowed network outside timm, as a user would write it; tests/test_resize.py trains it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

not_callable = 3


class Windowed(nn.Module):
    """Attention in the four quarters of a grid of patches, whose tables follow the grid.

    The relative position bias has no window_size beside it, and the position table no grid: they
    are known by their shapes alone.
    """

    def __init__(self, num_classes: int, img_size: int, in_chans: int, dim: int = 8) -> None:
        super().__init__()
        self.window = img_size // 4 // 2  # patches of 4 pixels
        self.stem = nn.Conv2d(in_chans, dim, kernel_size=4, stride=4)
        self.norm = nn.BatchNorm2d(dim)
        self.extra_token = nn.Parameter(torch.randn(1, 1, dim))
        self.abs_pos_embed = nn.Parameter(torch.randn(1, 1 + (2 * self.window) ** 2, dim))
        self.relative_position_bias_table = nn.Parameter(torch.randn((2 * self.window - 1) ** 2, 1))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.head = nn.Linear(dim, num_classes)
        rows, columns = torch.meshgrid(
            torch.arange(self.window), torch.arange(self.window), indexing="ij"
        )
        rows, columns = rows.flatten(), columns.flatten()
        index = (rows[:, None] - rows + self.window - 1) * (2 * self.window - 1)
        index = index + columns[:, None] - columns + self.window - 1
        self.index: Tensor
        self.register_buffer("index", index)  # persistent, unlike timm's

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.norm(self.stem(images)).flatten(2).mT
        tokens = torch.cat([self.extra_token.expand(len(tokens), -1, -1), tokens], dim=1)
        tokens = tokens + self.abs_pos_embed
        first, patches = tokens[:, :1], tokens[:, 1:]
        side = self.window
        windows = patches.unflatten(1, (2, side, 2, side)).transpose(2, 3).flatten(1, 2)
        windows = windows.flatten(2, 3)  # (N, 4, w², D)
        query, key, value = self.qkv(windows).chunk(3, dim=-1)
        scores = query @ key.mT + self.relative_position_bias_table[self.index][..., 0]
        return self.head((scores.softmax(-1) @ value).mean((1, 2)) + first[:, 0])


def windowed(num_classes: int, img_size: int, in_chans: int) -> nn.Module:
    return Windowed(num_classes, img_size, in_chans)


def fixed(num_classes: int) -> nn.Module:
    """Follows its one size, but does not say so."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))


def features(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes + 1))


def no_module(num_classes: int) -> str:
    return "a string"
