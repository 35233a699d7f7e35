"""A dense masked autoencoder, written from the paper to check the project's model against.

It does everything the long way: it embeds all patches by convolution, shuffles them by their noise,
fills up with mask tokens, un-shuffles, and averages the loss under a mask. Its state dict has the
key names of the reference implementation (https://github.com/facebookresearch/mae). Nothing of the
project is used.
"""

import math

import torch
from torch import Tensor, nn


def sincos(rows: int, columns: int, dim: int) -> Tensor:
    """(1, 1 + rows · columns, dim): a zero row for the class token, then the patches."""
    omega = torch.tensor([10000 ** (-4 * i / dim) for i in range(dim // 4)], dtype=torch.float64)
    table = torch.zeros(1 + rows * columns, dim, dtype=torch.float64)
    for row in range(rows):
        for column in range(columns):
            x, y = column * omega, row * omega
            table[1 + row * columns + column] = torch.cat([x.sin(), x.cos(), y.sin(), y.cos()])
    return table.float()[None]


def cubic_weights(full: int, size: int) -> Tensor:
    """(size, full): cubic convolution (Keys, a = -0.75) at the centres of coarser cells."""

    def kernel(distance: float) -> float:
        x, a = abs(distance), -0.75
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0

    weights = torch.zeros(size, full, dtype=torch.float64)
    for target in range(size):
        centre = (target + 0.5) * full / size - 0.5
        for tap in range(math.floor(centre) - 1, math.floor(centre) + 3):
            weights[target, min(max(tap, 0), full - 1)] += kernel(centre - tap)
    return weights


def resample(table: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """A table with a class row, from one grid to another."""
    if old == new:
        return table
    rows, columns = (cubic_weights(o, n).to(table) for o, n in zip(old, new, strict=True))
    grid = table[0, 1:].reshape(*old, -1)
    grid = torch.einsum("ar,bc,rcd->abd", rows, columns, grid)
    return torch.cat([table[:, :1], grid.reshape(1, new[0] * new[1], -1)], dim=1)


class Attention(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        heads = []
        for q, k, v in zip(
            *(part.chunk(self.num_heads, dim=-1) for part in self.qkv(x).chunk(3, dim=-1)),
            strict=True,
        ):
            scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
            heads.append(scores.softmax(dim=-1) @ v)
        return self.proj(torch.cat(heads, dim=-1))


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)
        return self.fc2(hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))))


class Block(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ReferenceMAE(nn.Module):
    def __init__(
        self,
        *,
        image_size: tuple[int, int],
        patch_size: tuple[int, int],
        in_chans: int = 3,
        dim: int,
        depth: int,
        num_heads: int,
        decoder_dim: int,
        decoder_depth: int,
        decoder_num_heads: int,
        mask_ratio: float = 0.75,
        norm_pixel: bool = True,
    ) -> None:
        super().__init__()
        self.patch_size, self.mask_ratio, self.norm_pixel = patch_size, mask_ratio, norm_pixel
        self.grid = (image_size[0] // patch_size[0], image_size[1] // patch_size[1])
        projection = nn.Conv2d(in_chans, dim, patch_size, stride=patch_size)
        self.patch_embed = nn.ModuleDict({"proj": projection})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(sincos(*self.grid, dim), requires_grad=False)
        self.blocks = nn.ModuleList(Block(dim, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

        self.decoder_embed = nn.Linear(dim, decoder_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_dim))
        self.decoder_pos_embed = nn.Parameter(sincos(*self.grid, decoder_dim), requires_grad=False)
        self.decoder_blocks = nn.ModuleList(
            Block(decoder_dim, decoder_num_heads) for _ in range(decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(decoder_dim, eps=1e-6)
        self.decoder_pred = nn.Linear(decoder_dim, patch_size[0] * patch_size[1] * in_chans)
        for name, parameter in self.named_parameters():
            if "pos_embed" not in name:  # weights without any symmetry: every mix-up shows
                centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
                nn.init.normal_(parameter, mean=centre, std=0.1)

    def patches_of(self, images: Tensor) -> Tensor:
        """(N, L, rows · columns · channels), patch after patch."""
        height, width = self.patch_size
        return torch.stack(
            [
                images[:, :, top : top + height, left : left + width].movedim(1, -1).flatten(1)
                for top in range(0, images.shape[2], height)
                for left in range(0, images.shape[3], width)
            ],
            dim=1,
        )

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, predictions of all patches, and the mask (1 where masked)."""
        height, width = self.patch_size
        grid = (images.shape[2] // height, images.shape[3] // width)
        pos_embed = resample(self.pos_embed, self.grid, grid)
        decoder_pos_embed = resample(self.decoder_pos_embed, self.grid, grid)
        num_images, num_patches = noise.shape

        x = self.patch_embed["proj"](images).flatten(2).transpose(1, 2) + pos_embed[:, 1:]
        keep = int(num_patches * (1 - self.mask_ratio))
        shuffle = noise.argsort(dim=1)
        restore = shuffle.argsort(dim=1)
        batch = torch.arange(num_images)[:, None]
        x = x[batch, shuffle][:, :keep]
        mask = torch.ones(num_images, num_patches, dtype=x.dtype)
        mask[:, :keep] = 0
        mask = mask[batch, restore]
        cls = (self.cls_token + pos_embed[:, :1]).repeat(num_images, 1, 1)
        x = torch.cat([cls, x], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.decoder_embed(self.norm(x))

        masked = self.mask_token.repeat(num_images, num_patches - keep, 1)
        patches = torch.cat([x[:, 1:], masked], dim=1)[batch, restore]
        x = torch.cat([x[:, :1], patches], dim=1) + decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        prediction = self.decoder_pred(self.decoder_norm(x))[:, 1:]

        target = self.patches_of(images)
        if self.norm_pixel:
            centred = target - target.mean(dim=-1, keepdim=True)
            variance = centred.square().sum(dim=-1, keepdim=True) / (target.shape[-1] - 1)
            target = centred / (variance + 1e-6) ** 0.5
        per_patch = (prediction - target).square().mean(dim=-1)
        return (per_patch * mask).sum() / mask.sum(), prediction, mask
