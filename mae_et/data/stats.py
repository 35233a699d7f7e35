"""Mean and deviation of a data set's channels, the values for `data.mean` and `data.std`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms import v2

from .images import ImageTable, UnreadableImageError


def channel_mean_and_std(images: ImageTable, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Compute mean and standard deviation of each channel over the pixels of whole images.

    Every image has the same weight, whatever its size. Images that can't be decoded are left out.

    Args:
        images: The images of a data set.
        rows: The rows to use.

    Returns:
        Means (C,) and deviations (C,) in the unit of `data.mean`: unsigned numbers are divided by
        the largest of their type.

    Raises:
        ValueError: None of the images can be decoded.
    """
    means, variances, reasons = [], [], list[str]()
    for row in rows:
        try:
            pixels = v2.functional.to_image(images[row].decode())  # (C, H, W)
        except UnreadableImageError as error:
            reasons.append(str(error))
            continue
        flat = pixels.flatten(1).double() / 255
        means.append(flat.mean(1))
        variances.append(flat.var(1, correction=0))
    if not means:
        raise ValueError(
            f"data.path must hold images, got {len(rows)} of which none is readable"
            + "".join(f"; first: {reason}" for reason in reasons[:1])
        )
    mean = torch.stack(means)
    variance = torch.stack(variances).mean(0) + mean.var(0, correction=0)
    return mean.mean(0), variance.sqrt()
