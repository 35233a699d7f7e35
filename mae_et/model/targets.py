"""Reconstruction targets: what the decoder predicts for a masked patch.

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
"""Differences of normalised pixels below this are none: what rounding leaves of equal ones is 1e-5,
and one grey level is 0.02. Else even areas would get histograms of length one and random direction,
and vertical edges, whose angle parts two bins, would fall to either: in photos of 224 pixels, 14 %
of the cells were wrong."""


HOG_EPSILON = 1e-5
"""Joins the norm of a histogram, as in scikit-image."""


Gradient = Literal["sobel", "central"]


def pixel(patches: Tensor) -> Tensor:
    """The pixels themselves."""
    return patches


def norm_pixel(patches: Tensor) -> Tensor:
    """(N, L, P) -> (N, L, P): pixels normalised by their patch's mean and (unbiased) variance.

    Source: MAE, https://arxiv.org/abs/2111.06377, Section 3, "Reconstruction target".
    """
    num_values = patches.shape[-1]
    unbiased = (num_values - 1) / num_values  # layer norm, one pass, divides by the biased variance
    normalized = F.layer_norm(patches, (num_values,), eps=EPSILON * unbiased)
    return normalized * math.sqrt(unbiased)


def unnormalize(prediction: Tensor, patches: Tensor) -> Tensor:
    """Undo `norm_pixel` on a prediction with the statistics of the true patches.

    A visual aid only: it uses statistics that the model never saw.
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
    """Histograms of oriented gradients: (N, C, H, W) -> (N, C · bins, H / cell, W / cell).

    Each pixel of a channel votes with the length of its gradient for the orientation of it, without
    sign: bin k has the angles [k, k + 1) · 180° / bins from the column axis to the row axis. A
    cell's histogram is the mean over its pixels, divided by its L2 norm, sqrt(sum of squares +
    epsilon²).

    Source: MaskFeat (CVPR 2022, https://arxiv.org/abs/2112.09133), Section 3.1, and its released
    code, which FastMIM (https://arxiv.org/abs/2212.06593) took over: 9 bins, cells of 8 pixels,
    Sobel gradients with mirrored borders, no smooth votes, no blocks of cells, and normalised
    images as they enter the network. (There, bins are counted from the row axis, the epsilon is
    1e-12, and rounding counts.) With central differences it is `skimage.feature.hog` of one
    channel, with blocks of one cell and block_norm "L2".

    Args:
        images: float.
        bins: orientations in 180°.
        cell: pixels; divides H and W.
        gradient: sobel (3 × 3) or central differences, both as the change over two pixels.
    """
    padded = F.pad(images.float(), (1, 1, 1, 1), mode="reflect")
    dx = padded[..., 2:] - padded[..., :-2]
    dy = padded[..., 2:, :] - padded[..., :-2, :]
    if gradient == "sobel":  # slices, since autocast would round a convolution
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
    """What is predicted of an image."""

    features: Callable[[Tensor], Tensor]
    """(N, C, H, W) -> (N, F, h, w), whose patches have P values."""
    normalize: Callable[[Tensor], Tensor]
    """(N, L, P) -> (N, L, P), each patch by itself."""
    patch_size: tuple[int, int]
    """(height, width) of a patch in that map."""
    num_features: int
    """F."""

    @property
    def num_values(self) -> int:
        """P."""
        return self.patch_size[0] * self.patch_size[1] * self.num_features


TARGETS = ("norm_pixel", "pixel", "hog")


def create_target(
    name: str,
    *,
    patch_size: tuple[int, int],
    in_chans: int,
    bins: int = 9,
    cell: int = 8,
    gradient: Gradient = "sobel",
) -> Target:
    """The target of that name.

    Args:
        name: norm_pixel, pixel or hog.
        patch_size: pixels (height, width).
        in_chans: C.
        bins: see `hog`, like the following.
        cell: pixels.
        gradient: sobel or central.

    Raises:
        ValueError: there is no such target, or histograms do not fit the patches.
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
