"""The rules of automatic settings for SimMIM, which trains the network that the user gives.

Source: SimMIM (https://arxiv.org/abs/2111.09886), from which all but the sizes is taken.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ..curriculum import as_pair
from ..errors import check
from ..model import SimMIM
from .choices import Choices
from .encoders import Encoder
from .facts import ImageFacts

LARGEST_SIZE, LARGEST_UNIT = 224, 32
"""The most pixels of a side of images and of mask units."""

LEAST_UNITS = 7
"""Mask units along a side of an image, as the 32 pixels of SimMIM in 224."""


def chooses_simmim(choices: Choices) -> bool:
    """Return whether the user has chosen SimMIM."""
    return bool(choices.given.get("model.method") == "simmim")


def choose_sizes(choices: Choices, facts: ImageFacts) -> None:
    """Choose the size of images, which are whole positions of the network's map, and mask units.

    Raises:
        ValueError: No network is given, it gives no map, or the images are too small for it.
    """
    named = "given with model.method simmim (convnext_tiny, resnet50, swin_tiny_patch4_window7_224)"
    check("model.encoder" in choices.given, "model.encoder", None, named)
    name, given = choices.given["model.encoder"], choices.given.get("model.image_size")
    read = _on_meta(choices, LARGEST_SIZE if given is None else given).read
    stride, usual = max(read.stride), min(LARGEST_SIZE, facts.short_side(0.1))
    size = usual // stride * stride
    if given is None and size < 2 * stride:
        raise ValueError(
            f"data.path must hold images of at least {2 * stride} pixels for {name}, whose map has "
            f"a stride of {stride}, got a tenth of them with a short side of {usual} or less; "
            f"--model.image_size {2 * stride} enlarges them, and --model.encoder_args can lower "
            "the stride ('{output_stride: 8}' of a ResNet, '{patch_size: 1}' of a ConvNeXt)"
        )
    reason = (
        f"nine tenths of the images have a short side of {usual} or more; the stride is {stride}"
    )
    size = choices.choose("model.image_size", size, reason)
    side, token = min(as_pair(size)), max(read.stem.stride) if read.stem else 1
    unit = max(token, min(LARGEST_UNIT, 2 ** int(math.log2(max(side / LEAST_UNITS, 1)))))
    if any(length % unit for length in as_pair(size)) or unit % token:
        unit = stride
    reason = f"at least {LEAST_UNITS} units a side, at most {LARGEST_UNIT} pixels"
    choices.choose("model.mask_unit", unit, reason)
    choices.choose("model.mask_ratio", 0.6, "as in SimMIM")
    choices.choose("model.target", "pixel", "as in SimMIM")
    choices.choose("data.crop_scale", (0.67, 1.0), "as in SimMIM")


def given_network(choices: Choices) -> Encoder:
    """Return the network that the user gives, with the memory of its activations.

    Ours: what its layers return, twice, in numbers of 4 bytes.

    Args:
        choices: The settings, of which the sizes are chosen.

    Raises:
        ValueError: It gives no map, or does not fit the sizes.
    """
    model = _on_meta(choices, choices["model.image_size"])
    numbers: list[int] = []

    def add(_: nn.Module, __: Any, output: Any) -> None:
        numbers.append(output.numel() if isinstance(output, torch.Tensor) else 0)

    leaves = [module for module in model.encoder.modules() if not any(module.children())]
    hooks = [module.register_forward_hook(add) for module in leaves]
    with torch.no_grad():
        shape = (2, model.in_chans, *as_pair(model.full_size))
        model.read(model.encoder, torch.empty(shape, device="meta"))
    for hook in hooks:
        hook.remove()
    return Encoder(
        name=f"{model.read.dim} wide",
        images=0,
        timm_name=model.encoder_name,
        arguments={},
        width=model.read.dim,
        depth=0,
        decoder=None,
        memory=2 * 4 * sum(numbers) // 2,  # of two images
    )


def _on_meta(choices: Choices, image_size: Any) -> SimMIM:
    with torch.device("meta"):
        return SimMIM(
            choices.given["model.encoder"],
            encoder_args=choices.given.get("model.encoder_args"),
            image_size=image_size,
            patch_size=choices.given.get("model.patch_size"),
            in_chans=choices["model.in_chans"],
        )
