"""What automatic settings follow from: the images, of which some are looked at, and the machine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import psutil
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F

from .. import data
from ..config import DataConfig
from ..workers import cpu_cores

MOST_IMAGES, LEAST_IMAGES, SECONDS = 500, 50, 20.0
"""Images that are looked at, and how many of them even if it takes longer than these seconds."""

SIDE = 224
"""Pixels of the short side to which larger images are reduced before they are measured."""

GREY_DIFFERENCE, COLOURED = 8 / 255, 1e-3
"""How much the channels of a grey picture may differ, since JPEG rounds each for itself; and the
share of pixels in which they may differ more."""

FLAT_DEVIATION = 0.03
"""The standard deviation of a patch, relative to that of all images, below which it is flat."""

MOST_CHANNELS = 64
"""The most channels that are tried on arrays."""


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What is known of the images of a data set."""

    number: int
    """Training images."""
    sampled: int
    """Images that were looked at, and could be read."""
    unreadable: int
    """Images that were looked at, and could not be read."""
    reason: str
    """Why one of these could not be read."""
    grey: int
    """How many of the sampled images are grey, whatever their files say."""
    channels: int
    """1 if all of them are grey, 3 if any is coloured, or the channels of arrays."""
    short_sides: tuple[int, ...]
    """The short side of each sampled image in pixels, ascending."""
    flat: float
    """The share of patches (1/14 of the side) without any structure, such as a black background."""
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def short_side(self, share: float) -> int:
        """Return the short side that this share of the images, in [0, 1), does not reach."""
        return self.short_sides[int(share * len(self.short_sides))]


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    """What is known of the machine and of the processes that train."""

    device: str
    """cpu, cuda, …"""
    processes: int
    cores: int
    """CPU cores for each process."""
    memory: int
    """Bytes of free memory for each process, of the device if it has its own."""
    host_memory: int
    """Bytes of free main memory for each process."""
    has_bf16: bool
    """Whether the device computes in bfloat16 at full speed."""


def look_at_machine(accelerator: Accelerator) -> MachineFacts:
    """Find out what this process may use.

    Args:
        accelerator: The accelerator of this process.
    """
    world, kind = accelerator.num_processes, accelerator.device.type
    here = data.processes_here(world)
    host_memory = psutil.virtual_memory().available // here
    on_device = torch.cuda.mem_get_info(accelerator.device)[0] if kind == "cuda" else host_memory
    return MachineFacts(
        device=kind,
        processes=world,
        cores=max(1, cpu_cores() // here),
        memory=on_device,
        host_memory=host_memory,
        has_bf16=kind == "cuda" and torch.cuda.get_device_capability(accelerator.device) >= (8, 0),
    )


def look_at_images(source: DataConfig, seed: int, in_chans: int | None = None) -> ImageFacts:
    """Look at a random sample of the training images.

    Args:
        source: Where they come from.
        seed: Chooses the images.
        in_chans: Channels to measure; None to find them.

    Raises:
        ValueError: The images can't be opened, or none of those looked at can be read.
    """
    data.allow_pixels(source.max_pixels)
    opened = _open(source, seed, in_chans or 3)
    if in_chans is None and not opened.is_readable():  # pictures are read as 3, arrays as they are
        others = (_open(source, seed, number) for number in (1, 4, 2, *range(5, MOST_CHANNELS + 1)))
        opened = next((other for other in others if other.is_readable()), opened)
    is_given, in_chans = in_chans is not None, opened.in_chans
    sample = _Sample(opened.images, opened.rows)
    grey = sum(map(_is_grey, sample.pixels))
    if in_chans == 3 and grey == len(sample.pixels) and not is_given:
        in_chans = 1
        sample.pixels = [pixels.mean(0, keepdim=True) for pixels in sample.pixels]
    means = torch.stack([pixels.mean((1, 2)) for pixels in sample.pixels])
    squares = torch.stack([pixels.square().mean((1, 2)) for pixels in sample.pixels]).mean(0)
    mean = means.mean(0)
    std = (squares - mean**2).clamp(min=0).sqrt()
    return ImageFacts(
        number=source.num_images or opened.number,
        sampled=len(sample.pixels),
        unreadable=sample.unreadable,
        reason=sample.reason,
        grey=grey,
        channels=in_chans,
        short_sides=tuple(sorted(sample.short_sides)),
        flat=float(np.mean([_flat_share(pixels, std) for pixels in sample.pixels])),
        mean=tuple(round(value, 4) for value in mean.tolist()),
        std=tuple(round(max(value, 1e-3), 4) for value in std.tolist()),
    )


class _Opened(NamedTuple):
    """Images to look at."""

    in_chans: int
    """The channels that they are read with."""
    number: int
    """Training images, of which these may be a part."""
    images: data.Images
    rows: list[int]
    """Some of their rows, at random."""

    def is_readable(self) -> bool:
        """Return whether any of a few can be read with these channels."""
        for row in self.rows[:5]:
            try:
                _ = self.images[row]
            except data.UnreadableImageError:
                continue
            return True
        return False


def _open(source: DataConfig, seed: int, in_chans: int) -> _Opened:
    train, held_out = data.open_images(source, in_chans, seed)
    images: data.Images = held_out if isinstance(train, data.StreamedImages) else train
    rows = np.random.default_rng([seed, 5]).permutation(len(images))[:MOST_IMAGES]
    return _Opened(in_chans, len(train), images, rows.tolist())


class _Sample:
    """Some images of a data set, reduced, in the unit of `data.mean`."""

    def __init__(self, images: data.Images, rows: list[int]) -> None:
        self.pixels: list[Tensor] = []
        self.short_sides: list[int] = []
        self.unreadable = 0
        self.reason = ""
        deadline = time.monotonic() + SECONDS
        for row in rows:
            if len(self.pixels) >= LEAST_IMAGES and time.monotonic() > deadline:
                break
            try:
                image = images[row]
                height, width = image.size
                scale = min(1.0, SIDE / min(height, width))
                size = max(1, round(height * scale)), max(1, round(width * scale))
                pixels = image.crop(data.Box(0, 0, height, width), size)
            except data.UnreadableImageError as error:
                self.unreadable, self.reason = self.unreadable + 1, str(error)
                continue
            self.pixels.append(pixels.double() / 255)
            self.short_sides.append(min(height, width))
        if not self.pixels:
            raise ValueError(
                f"data.path must hold images, got {self.unreadable} of which none is readable; "
                f"last: {self.reason}"
            )


def _is_grey(pixels: Tensor) -> bool:
    """Return whether a picture (C, h, w) has no colours."""
    difference = pixels.amax(0) - pixels.amin(0)
    coloured = (difference > GREY_DIFFERENCE).double().mean().item()
    return len(pixels) in (1, 3) and coloured <= COLOURED


def _flat_share(pixels: Tensor, std: Tensor) -> float:
    """Return the share of the patches of an image (C, h, w) that are flat, beside the std (C,)."""
    patch = max(2, min(pixels.shape[-2:]) // 14)
    if min(pixels.shape[-2:]) < patch:
        return 0.0
    mean, square = (F.avg_pool2d(part[None], patch)[0] for part in (pixels, pixels.square()))
    deviation = (square - mean**2).clamp(min=0).sqrt() / std.clamp(min=1e-3)[:, None, None]
    deviation = deviation.amax(0)  # of the channel with most of it
    return float((deviation < FLAT_DEVIATION).double().mean().item())
