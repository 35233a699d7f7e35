"""Transforms from images to samples: in pretraining, an image and the noise that masks it.

An image made at a stage's size is not exactly a low-frequency crop. On photos of about 500 × 375
(full size 224) the RMS difference is 6, 12, 18 and 22 % of the crop's standard deviation at 192,
160, 128 and 96. Part of it is a shift: the exact crop keeps the place of the first pixel, a resize
that of the centre, which are 0.29 pixels apart at 96; without the shift, 4, 8, 13 and 15 % remain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from .images import AnyImage, ArrayImage, Box

ASPECT_RATIOS = [3 / 4, 4 / 3]
"""The least and the largest ratio of a random crop's width to its height."""

LOG_RATIOS = torch.tensor(ASPECT_RATIOS).log().tolist()
"""Their logarithms, rounded to float32 as torchvision does."""


class PretrainTransform:
    """A random crop (bicubic) and flip as in MAE, and the noise that masks the sample's patches.

    Augmentation may grow from weak to strong, as EfficientTrain's does in supervised training.

    A sample has an "image" (C, h, w), and "noise" (U,) for the full grid. A smaller grid of u
    units uses the first u values, so that masks, too, depend on the sample number alone.

    Args:
        size: (h, w) of the images in pixels.
        num_units: U, the number of mask units of the full grid.
        crop_scale: Share of the image's area that a crop covers, [least, most].
        flip: Whether half of the images are mirrored.
        size_at: Sample number -> (h, w) of its image, in place of `size`. What a crop shows and
            whether it is mirrored do not depend on it.
        first_crop_scale: `crop_scale` where progress is 0; None for no change.
        color_jitter: How far brightness, contrast and saturation vary, in [0, 1]; hue varies a
            quarter as far. None for no variation.
        first_color_jitter: `color_jitter` where progress is 0; None for no change.
        progress_at: Sample number -> how far augmentation has got, in [0, 1]; None for always 1.
    """

    torch_alone = True
    """It draws from no generator but torch's."""

    def __init__(
        self,
        size: tuple[int, int],
        num_units: int,
        crop_scale: tuple[float, float] = (0.2, 1.0),
        flip: bool = True,
        size_at: Callable[[int], tuple[int, int]] | None = None,
        first_crop_scale: tuple[float, float] | None = None,
        color_jitter: float | None = None,
        first_color_jitter: float | None = None,
        progress_at: Callable[[int], float] | None = None,
    ) -> None:
        self.size, self.size_at = size, size_at
        self.num_units = num_units
        self.crop_scale, self.first_crop_scale = crop_scale, first_crop_scale or crop_scale
        self.flip = flip
        self.color_jitter = color_jitter or 0.0
        self.first_color_jitter = (
            self.color_jitter if first_color_jitter is None else first_color_jitter
        )
        self.progress_at = progress_at

    def __call__(self, image: AnyImage, index: int, number: int) -> dict[str, Any]:
        """Make the sample of a number from an image; its row does not matter."""
        if self.color_jitter and isinstance(image, ArrayImage):  # even in stages without jitter
            image.check_bounded("data.color_jitter")
        noise = torch.rand(self.num_units)
        progress = 1.0 if self.progress_at is None else self.progress_at(number)
        least, most = (
            _between(first, last, progress)
            for first, last in zip(self.first_crop_scale, self.crop_scale, strict=True)
        )
        box = random_box(*image.size, (least, most))
        is_flipped = torch.rand(()).item() < 0.5 and self.flip
        size = self.size if self.size_at is None else self.size_at(number)
        pixels = image.crop(box, size)
        jitter = _between(self.first_color_jitter, self.color_jitter, progress)
        if jitter:
            change = v2.ColorJitter(jitter, jitter, jitter, jitter / 4)
            is_float = pixels.is_floating_point()  # torchvision takes 1 for white then
            pixels = change(pixels / 255) * 255 if is_float else change(pixels)
        return {"noise": noise, "image": pixels.flip(-1) if is_flipped else pixels}


def _between(first: float, last: float, progress: float) -> float:
    """Interpolate at a progress in [0, 1]; the result is exact if both numbers are equal."""
    return last if first == last else first + (last - first) * progress


def random_box(height: int, width: int, scale: tuple[float, float]) -> Box:
    """Draw the box of torchvision's RandomResizedCrop from torch's generator, without an image.

    It takes a third of the time of `RandomResizedCrop.get_params`, a tenth of a sample's.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        scale: Share of the image's area that the box covers, [least, most].
    """
    draw, place = torch.empty(1), torch.empty(1, dtype=torch.int64)
    for _ in range(10):
        area = height * width * draw.uniform_(*scale).item()
        ratio = draw.uniform_(*LOG_RATIOS).exp_().item()
        columns, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < columns <= width and 0 < rows <= height:
            top = int(place.random_(0, height - rows + 1).item())
            return Box(top, int(place.random_(0, width - columns + 1).item()), rows, columns)
    rows = min(height, round(width / ASPECT_RATIOS[0]))  # the largest box in the middle
    columns = min(width, round(height * ASPECT_RATIOS[1]))
    return Box((height - rows) // 2, (width - columns) // 2, rows, columns)


class EvalTransform:
    """The centre of the image at full size, "image" (C, H, W), with "noise" (U,) as in training.

    Args:
        size: (H, W) in pixels.
        num_units: U, the number of mask units of the full grid.
    """

    def __init__(self, size: tuple[int, int], num_units: int) -> None:
        self.num_units = num_units
        self.crop = centre_crop(size)

    def __call__(self, image: AnyImage, index: int, number: int) -> dict[str, Any]:
        """Make a sample from an image, whatever its row and the sample's number."""
        return {"noise": torch.rand(self.num_units), "image": self.crop(image.decode())}


class LabelledCrop:
    """The centre of the image, "image" (C, H, W), its "label", and whether it "is_own".

    A sample is not its own if its image stands in for an unreadable one.

    Args:
        size: (H, W) in pixels.
        labels: (N,) the class number of each row.
    """

    def __init__(self, size: tuple[int, int], labels: Any) -> None:
        self.crop = centre_crop(size)
        self.labels = labels

    def __call__(self, image: AnyImage, index: int, number: int) -> dict[str, Any]:
        """Make the sample of a number from the image of a row of the data set."""
        label = int(self.labels[index])
        return {"image": self.crop(image.decode()), "label": label, "is_own": index == number}


class CutEnds:
    """Cuts off the ends of an image that is far longer than wide, which its centre crop won't show.

    Otherwise resizing the shorter side first would need gigabytes for 1 × 20,000 pixels. Images
    whose sides differ by less than a factor of 8 stay as they are.

    Args:
        size: (height, width) of the centre crop in pixels.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.ratio = -(-8 * max(size) // min(size))

    def __call__(self, image: Any) -> Any:
        """Return the picture or tensor (C, H, W), or the middle of it."""
        height, width = v2.functional.get_size(image)
        longest = self.ratio * min(height, width)
        if max(height, width) <= longest:
            return image
        longest += (max(height, width) - longest) % 2  # so that the centre stays where it is
        return v2.functional.center_crop(image, [min(height, longest), min(width, longest)])


def eval_transform(**preprocessing: Any) -> Any:
    """Return timm's evaluation transform without its end, so pixels keep their type and range.

    Args:
        preprocessing: timm's data config: input_size (C, H, W), interpolation, crop_pct, ….
    """
    from timm.data import create_transform  # brings all of timm's models, which takes seconds
    from timm.data.transforms import MaybePILToTensor

    transform = create_transform(**preprocessing, use_prefetcher=True, is_training=False)
    steps = [*transform.transforms[:-1], MaybePILToTensor()]
    if preprocessing.get("crop_mode") in (None, "center"):  # the others show the whole image
        _, height, width = preprocessing["input_size"]
        steps.insert(0, CutEnds((height, width)))
    return v2.Compose(steps)


def centre_crop(size: tuple[int, int]) -> v2.Compose:
    """Create a transform from a decoded image to its centre, (C, height, width) of the same type.

    Args:
        size: (height, width) in pixels. The image's shorter side is resized to the larger of them.
    """
    return v2.Compose(
        [
            CutEnds(size),
            v2.Resize(max(size), interpolation=v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(size),
            v2.PILToTensor(),
        ]
    )


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise images by the mean and standard deviation of their channels.

    Args:
        images: (…, C, H, W) with values in 0 … 255.
        mean: (C, 1, 1) for values in 0 … 1.
        std: (C, 1, 1) for values in 0 … 1.
    """
    return (images - 255 * mean) / (255 * std)


def channel_statistics(values: Sequence[float], device: torch.device | str = "cpu") -> Tensor:
    """Turn a mean or deviation per channel into a tensor (C, 1, 1) for `normalize`.

    Args:
        values: One number per channel.
        device: The device of the tensor.
    """
    return torch.tensor(values, device=device).view(-1, 1, 1)
