"""Reconstruction targets, which the decoder predicts for masked patches.

A target is a map of features of the image, cut into patches, each of which may be normalised.

Shape legend: N images of C × H × W, L patches, P values of a patch in the order (row, column,
feature).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-6
"""Added to a patch's variance, as in the reference implementation of MAE."""

ROUNDING = 1e-4
"""Differences of normalised pixels below this count as zero: between equal pixels, rounding leaves
1e-5, and one grey level is 0.02. Otherwise uniform areas would get histograms of length one in a
random direction, and vertical edges, whose angle is the boundary of two bins, would fall into
either: in photos of 224 pixels, 14 % of the cells were wrong."""

HOG_EPSILON = 1e-5
"""Added to the norm of a histogram (as its square, under the root), as in scikit-image."""

Gradient = Literal["sobel", "central"]


def pixel(patches: Tensor) -> Tensor:
    """Return the pixels themselves."""
    return patches


def norm_pixel(patches: Tensor) -> Tensor:
    """Normalise pixels (N, L, P) by their patch's mean and (unbiased) variance.

    Source: MAE, https://arxiv.org/abs/2111.06377, Section 3, "Reconstruction target".
    """
    num_values = patches.shape[-1]
    unbiased = (num_values - 1) / num_values  # layer norm (one pass) uses the biased variance
    normalized = F.layer_norm(patches, (num_values,), eps=EPSILON * unbiased)
    return normalized * math.sqrt(unbiased)


def unnormalize(prediction: Tensor, patches: Tensor) -> Tensor:
    """Undo `norm_pixel` on a prediction with the statistics of the true patches.

    This is a visual aid only, since the model never saw these statistics.

    Args:
        prediction: Predicted normalised pixels, (N, L, P).
        patches: The true patches, (N, L, P).
    """
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return prediction * (variance + EPSILON).sqrt() + mean


def hog(
    images: Tensor,
    *,
    bins: int = 9,
    cell: int = 8,
    gradient: Gradient = "sobel",
) -> Tensor:
    """Compute histograms of oriented gradients: (N, C, H, W) -> (N, C · bins, H / cell, W / cell).

    Each pixel of a channel votes for the orientation of its gradient, regardless of sign, with the
    gradient's length: bin k has the angles [k, k + 1) · 180° / bins from the column axis to the row
    axis. A cell's histogram is the mean over its pixels, divided by its L2 norm, sqrt(sum of
    squares + epsilon²).

    Source: MaskFeat (CVPR 2022, https://arxiv.org/abs/2112.09133), Section 3.1, and its released
    code, which FastMIM (https://arxiv.org/abs/2212.06593) adopted: 9 bins, cells of 8 pixels, Sobel
    gradients with mirrored borders, no interpolation of votes, no blocks of cells, and normalised
    images as they enter the network. (There, bins are counted from the row axis, the epsilon is
    1e-12, and differences due to rounding count.) With central differences the result is that of
    `skimage.feature.hog` for one channel, with blocks of one cell and block_norm "L2".

    Args:
        images: Normalised images, floating point.
        bins: Number of orientations in 180°.
        cell: Side of a cell in pixels; divides H and W.
        gradient: "sobel" (3 × 3) or "central" differences, both as the change over two pixels.
    """
    padded = F.pad(images.float(), (1, 1, 1, 1), mode="reflect")
    dx = padded[..., 2:] - padded[..., :-2]
    dy = padded[..., 2:, :] - padded[..., :-2, :]
    if gradient == "sobel":  # by slices, since autocast would round a convolution
        dx = (dx[..., :-2, :] + 2 * dx[..., 1:-1, :] + dx[..., 2:, :]) / 4
        dy = (dy[..., :-2] + 2 * dy[..., 1:-1] + dy[..., 2:]) / 4
    else:
        dx, dy = dx[..., 1:-1, :], dy[..., 1:-1]
    dx, dy = F.hardshrink(dx, ROUNDING), F.hardshrink(dy, ROUNDING)
    votes = torch.hypot(dx, dy)
    orientations = (torch.atan2(dy, dx) * (bins / math.pi)).floor().long() % bins

    cells = "n c (r h) (s w) -> n c r s (h w)"
    votes = rearrange(votes, cells, h=cell, w=cell)
    sums = votes.new_zeros(*votes.shape[:-1], bins)
    sums.scatter_add_(-1, rearrange(orientations, cells, h=cell, w=cell), votes)
    histograms = sums / cell**2
    norms = (histograms.square().sum(-1, keepdim=True) + HOG_EPSILON**2).sqrt()
    return rearrange(histograms / norms, "n c r s b -> n (c b) r s")


class Target(NamedTuple):
    """A reconstruction target: how to compute it from images, and its shape."""

    features: Callable[[Tensor], Tensor]
    """Images (N, C, H, W) -> a map (N, F, h, w), whose patches have P values."""
    normalize: Callable[[Tensor], Tensor]
    """Patches (N, L, P) -> (N, L, P), each by itself."""
    patch_size: tuple[int, int]
    """(height, width) of a patch in the map of features."""
    num_features: int
    """F, the number of features of the map."""

    @property
    def num_values(self) -> int:
        """P, the number of values of a patch."""
        return self.patch_size[0] * self.patch_size[1] * self.num_features


TARGETS = ("norm_pixel", "pixel", "hog")
"""The names that `create_target` knows."""


def create_target(
    name: str,
    *,
    patch_size: tuple[int, int],
    in_chans: int,
    bins: int = 9,
    cell: int = 8,
    gradient: Gradient = "sobel",
) -> Target:
    """Create a target by name.

    Args:
        name: "norm_pixel", "pixel" or "hog".
        patch_size: (height, width) in pixels.
        in_chans: C.
        bins: Number of orientations of "hog"; see `hog`.
        cell: Side of a cell of "hog" in pixels; divides the patch size.
        gradient: Gradients of "hog": "sobel" or "central".

    Raises:
        ValueError: There is no such target, or histograms do not fit the patches.
    """
    height, width = patch_size
    if name not in TARGETS:
        raise ValueError(f"model.target must be one of {', '.join(TARGETS)}, got {name!r}")
    if name != "hog":
        normalize = norm_pixel if name == "norm_pixel" else pixel
        return Target(pixel, normalize, patch_size, in_chans)
    if bins < 2:
        raise ValueError(f"model.hog.bins must be at least 2, got {bins}")
    if cell < 1 or height % cell or width % cell:
        raise ValueError(
            f"model.hog.cell must divide the patch size {height} x {width}, got {cell}"
        )
    if gradient not in ("sobel", "central"):
        raise ValueError(f"model.hog.gradient must be 'sobel' or 'central', got {gradient!r}")
    features = partial(hog, bins=bins, cell=cell, gradient=gradient)
    return Target(features, pixel, (height // cell, width // cell), bins * in_chans)
