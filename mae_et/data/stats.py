"""The values of a data set's channels: what `data.mean` and `data.std` are, or can't be."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms import v2

from ..curriculum import Size, as_pair
from .images import UnreadableImageError
from .samples import Images

log = logging.getLogger(__name__)

LEAST_RANGE = 0.1
"""The part of their scale that values use at least, if nothing is wrong."""

MOST_DEVIATIONS = 10
"""The root mean square of normalised values at most, if nothing is wrong; it should be 1."""

LEAST_SPREAD = 0.1
"""The deviation of normalised values at least, if nothing is wrong; it should be 1."""

MOST_SHIFT = 3
"""The mean of a channel's normalised values at most, if nothing is wrong; it should be 0.

The usual values (of ImageNet, of CLIP, 0.5) give no picture more: 2.7 where all of it is white."""

PIXELS_AT_A_TIME = 2**20
"""Pixels whose values are summed at a time; all of a large photo take gigabytes as float64."""


class ChannelValues(NamedTuple):
    """What the values of the channels are, in the unit of `data.mean` (see `images.units`)."""

    mean: Tensor
    """(C,) over the pixels of whole images, each of which has the same weight."""
    std: Tensor
    """(C,) the standard deviation over these."""
    low: Tensor
    """(C,) the least value."""
    high: Tensor
    """(C,) the largest value."""
    unreadable: Sequence[str] = ()
    """What was wrong with the images that were left out."""

    @property
    def widest(self) -> float:
        """The difference of the largest and the least value of the channel with most of it."""
        return (self.high - self.low).max().item()

    def __str__(self) -> str:
        channel = (self.high - self.low).argmax()
        return f"{self.low[channel].item():.4g} to {self.high[channel].item():.4g}"


def channel_values(images: Images, rows: Sequence[int]) -> ChannelValues:
    """Measure the channels of images. Images that can't be decoded are left out, and listed.

    Args:
        images: The images of a data set.
        rows: The rows to use.

    Raises:
        ValueError: None of the images can be decoded.
    """
    means, variances, lows, highs = [], [], [], []
    reasons = list[str]()
    for row in rows:
        try:
            pixels = v2.functional.to_image(images[row].decode())  # (C, H, W)
        except UnreadableImageError as error:
            reasons.append(str(error))
            continue
        flat = pixels.flatten(1)
        parts = flat.split(PIXELS_AT_A_TIME, dim=1)
        mean = torch.stack([part.double().sum(1) for part in parts]).sum(0) / flat.shape[1]
        squares = [(part - mean[:, None]).square().sum(1) for part in parts]
        means.append(mean / 255)
        variances.append(torch.stack(squares).sum(0) / flat.shape[1] / 255**2)
        lows.append(flat.amin(1).double() / 255)
        highs.append(flat.amax(1).double() / 255)
    if not means:
        raise ValueError(
            f"data.path must hold images, got {len(rows)} of which none is readable"
            + "".join(f"; first: {reason}" for reason in reasons[:1])
        )
    mean = torch.stack(means)
    variance = torch.stack(variances).mean(0) + mean.var(0, correction=0)
    return ChannelValues(
        mean=mean.mean(0),
        std=variance.sqrt(),
        low=torch.stack(lows).amin(0),
        high=torch.stack(highs).amax(0),
        unreadable=reasons,
    )


def _rows_of(images: Images, number: int) -> range:
    """Return some rows of images, from the first to the last."""
    return range(0, len(images), max(1, len(images) // number))[:number]


def warn_of_size(images: Images, size: Size, num_images: int = 8) -> None:
    """Warn if most images are smaller than what a model takes, and so are enlarged.

    Args:
        images: The images of a data set.
        size: As `model.image_size`.
        num_images: How many of the images to look at.
    """
    found = list[tuple[int, int]]()
    for row in _rows_of(images, num_images):
        with suppress(UnreadableImageError):  # which is said elsewhere
            found.append(images[row].size)
    height, width = as_pair(size)
    small = [sides for sides in found if sides[0] < height or sides[1] < width]
    if len(small) > len(found) / 2:
        log.warning(
            "%d of %d images looked at are smaller than model.image_size %s, to which they are "
            "enlarged; such as %d x %d pixels. A smaller model.image_size costs less",
            len(small),
            len(found),
            size,
            *small[0],
        )


def warn_of_range(
    images: Images, mean: Sequence[float], std: Sequence[float], num_images: int = 8
) -> None:
    """Warn if `data.mean` and `data.std` can't be those of the images.

    That is so if values use less than a tenth of their scale, as 12 bits in a 16-bit file do, and
    are normalised as if they used all of it; or if what should have mean 0 and deviation 1 is far
    from it: too large, as numbers that have no scale; too small or off the centre, as where the
    mean and the deviation are in another unit.

    Args:
        images: The images of a data set.
        mean: As `data.mean`.
        std: As `data.std`.
        num_images: How many of the images to look at.
    """
    try:
        found = channel_values(images, _rows_of(images, num_images))
    except ValueError:  # which is said elsewhere
        return
    centre, deviation = (torch.tensor(values, dtype=torch.float64) for values in (mean, std))
    shift, spread = (found.mean - centre) / deviation, found.std / deviation
    size = (shift**2 + spread**2).mean().sqrt().item()
    is_small = found.widest < LEAST_RANGE and found.widest < deviation.min().item()
    is_off = spread.max() < LEAST_SPREAD or shift.abs().max() > MOST_SHIFT
    if is_small or is_off or size > MOST_DEVIATIONS:
        log.warning(
            "the values of the images go from %s%s, which data.mean %s and data.std %s do not fit: "
            "normalised, they have mean %.2g and deviation %.2g, not about 0 and 1; "
            "python -m mae_et stats prints those that do",
            found,
            ", less than a tenth of their scale" if is_small else "",
            list(mean),
            list(std),
            shift.mean(),
            spread.mean(),
        )
