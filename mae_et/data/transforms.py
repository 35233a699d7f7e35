"""What a sample of pretraining is: an image of the input size, and the noise that masks it.

An image made at a stage's size is no exact low-frequency crop. On photos of about 500 × 375 (full
size 224) the RMS difference is 6, 12, 18 and 22 % of the crop's standard deviation at 192, 160, 128
and 96. Part of it is a shift: the exact crop keeps the place of the first pixel, a resize that of
the centre, which is 0.29 pixels apart at 96; without it, 4, 8, 13 and 15 % are left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import RandomResizedCrop, v2

from .images.arrays import ArrayImage
from .images.encoded import Box
from .images.table import AnyImage

ASPECT_RATIOS = [3 / 4, 4 / 3]


class PretrainTransform:
    """A random crop (bicubic) and flip as in MAE, and the noise that masks the sample's patches.

    Augmentation may go from weak to strong, as EfficientTrain's does in supervised training.

    Gives "image" (C, h, w), and "noise" (L,) for the full grid. A smaller grid of l patches
    uses the first l values, so masks too depend on the sample number alone.

    Args:
        size: (h, w) of the images.
        num_patches: of the full grid.
        crop_scale: share of the area that a crop covers, [least, most].
        flip: whether half of the images are mirrored.
        size_at: sample number -> (h, w) of its image, in place of `size`. What the crop shows and
            whether it is mirrored do not depend on it.
        first_crop_scale: `crop_scale` where progress is 0; None for no change.
        color_jitter: how far brightness, contrast and saturation vary, in [0, 1], and hue a quarter
            as far; None for not at all.
        first_color_jitter: `color_jitter` where progress is 0; None for no change.
        progress_at: sample number -> how far augmentation has got, in [0, 1]; None for 1.
    """

    def __init__(
        self,
        size: tuple[int, int],
        num_patches: int,
        crop_scale: tuple[float, float] = (0.2, 1.0),
        flip: bool = True,
        size_at: Callable[[int], tuple[int, int]] | None = None,
        first_crop_scale: tuple[float, float] | None = None,
        color_jitter: float | None = None,
        first_color_jitter: float | None = None,
        progress_at: Callable[[int], float] | None = None,
    ) -> None:
        self.size, self.size_at = size, size_at
        self.num_patches = num_patches
        self.crop_scale, self.first_crop_scale = crop_scale, first_crop_scale or crop_scale
        self.flip = flip
        self.color_jitter = color_jitter or 0.0
        self.first_color_jitter = (
            self.color_jitter if first_color_jitter is None else first_color_jitter
        )
        self.progress_at = progress_at

    def __call__(self, image: AnyImage, index: int, number: int) -> dict[str, Any]:
        if self.color_jitter and isinstance(image, ArrayImage):  # not only from its first stage on
            image.check_bounded("data.color_jitter")
        noise = torch.rand(self.num_patches)
        progress = 1.0 if self.progress_at is None else self.progress_at(number)
        least, most = (
            _between(first, last, progress)
            for first, last in zip(self.first_crop_scale, self.crop_scale, strict=True)
        )
        box = random_box(*image.size, (least, most))
        is_flipped = bool(torch.rand(()) < 0.5) and self.flip
        size = self.size if self.size_at is None else self.size_at(number)
        pixels = image.crop(box, size)
        jitter = _between(self.first_color_jitter, self.color_jitter, progress)
        if jitter:
            change = v2.ColorJitter(jitter, jitter, jitter, jitter / 4)
            is_float = pixels.is_floating_point()  # then white is 1 to torchvision
            pixels = change(pixels / 255) * 255 if is_float else change(pixels)
        return {"noise": noise, "image": pixels.flip(-1) if is_flipped else pixels}


def _between(first: float, last: float, progress: float) -> float:
    """The number at a progress in [0, 1]; exactly the last one if nothing changes."""
    return last if first == last else first + (last - first) * progress


def random_box(height: int, width: int, scale: tuple[float, float]) -> Box:
    """The box of torchvision's RandomResizedCrop, drawn from torch's generator, without an image.

    Args:
        height: of the image, pixels.
        width: of the image, pixels.
        scale: share of the area that the box covers, [least, most].
    """
    image = torch.empty(1, height, width, device="meta")
    return Box(*RandomResizedCrop.get_params(image, list(scale), ASPECT_RATIOS))


class EvalTransform:
    """The centre of the image at full size, (C, H, W), with noise as in training."""

    def __init__(self, size: tuple[int, int], num_patches: int) -> None:
        self.num_patches = num_patches
        self.crop = centre_crop(size)

    def __call__(self, image: AnyImage, index: int, number: int) -> dict[str, Any]:
        return {"noise": torch.rand(self.num_patches), "image": self.crop(image.decode())}


class LabelledCrop:
    """The centre of the image as "image" (C, H, W), its "label", and whether it "is_own"."""

    def __init__(self, size: tuple[int, int], labels: Any) -> None:
        self.crop = centre_crop(size)
        self.labels = labels

    def __call__(self, image: AnyImage, index: int, number: int) -> dict[str, Any]:
        label = int(self.labels[index])
        return {"image": self.crop(image.decode()), "label": label, "is_own": index == number}


def centre_crop(size: tuple[int, int]) -> v2.Compose:
    """The centre of an image as `decode` gives it, (C, height, width) of the same type."""
    return v2.Compose(
        [
            v2.Resize(max(size), interpolation=v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(size),
            v2.PILToTensor(),
        ]
    )


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise (…, C, H, W) with values in 0 … 255 by statistics (C, 1, 1) of values in 0 … 1."""
    return (images - 255 * mean) / (255 * std)


def channel_statistics(values: Sequence[float], device: torch.device | str = "cpu") -> Tensor:
    """(C, 1, 1): a mean or deviation per channel, for `normalize`."""
    return torch.tensor(values, device=device).view(-1, 1, 1)
