"""Reconstruction targets: what the decoder predicts for a masked patch.

Shape legend: N images, L patches, P values of a patch in the order (row, column, channel).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

EPSILON = 1e-6
"""Added to a patch's variance, as in the reference implementation of MAE."""


def pixel(patches: Tensor) -> Tensor:
    """The pixels themselves."""
    return patches


def norm_pixel(patches: Tensor) -> Tensor:
    """(N, L, P) -> (N, L, P): pixels normalised by their patch's mean and (unbiased) variance.

    Source: MAE, https://arxiv.org/abs/2111.06377, Section 3, "Reconstruction target".
    """
    mean = patches.mean(dim=-1, keepdim=True)
    variance = patches.var(dim=-1, keepdim=True)
    return (patches - mean) / (variance + EPSILON).sqrt()


def unnormalize(prediction: Tensor, patches: Tensor) -> Tensor:
    """Undo `norm_pixel` on a prediction with the statistics of the true patches.

    A visual aid only: it uses statistics that the model never saw.
    """
    mean = patches.mean(dim=-1, keepdim=True)
    variance = patches.var(dim=-1, keepdim=True)
    return prediction * (variance + EPSILON).sqrt() + mean


TARGETS: dict[str, Callable[[Tensor], Tensor]] = {"pixel": pixel, "norm_pixel": norm_pixel}
