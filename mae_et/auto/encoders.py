"""The encoders that automatic settings choose from, and the one that a user gives."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from ..model import create_vit
from .choices import Choices


class Encoder(NamedTuple):
    """An encoder, its decoder, and the images from which on it is worth its cost."""

    name: str
    images: int
    """The number of training images that it needs."""
    timm_name: str
    arguments: dict[str, Any]
    """What differs from timm's model."""
    width: int
    depth: int
    decoder: tuple[int, int, int] | None
    """Width, blocks and heads of the decoder; None for SimMIM, which has none."""
    memory: int | None = None
    """Bytes of the activations of an image; None for a rule of ViTs."""


TINY, MICRO = "vit_tiny_patch16_224", {"embed_dim": 96, "depth": 4, "num_heads": 4}

ENCODERS = (
    Encoder("micro (96 wide, 4 blocks)", 0, TINY, MICRO, 96, 4, (64, 2, 4)),
    Encoder("ViT-Ti", 2_000, TINY, {}, 192, 12, (128, 2, 4)),
    Encoder("ViT-S", 30_000, "vit_small_patch16_224", {}, 384, 12, (256, 4, 8)),
    Encoder("ViT-B", 300_000, "vit_base_patch16_224", {}, 768, 12, (512, 8, 16)),
    Encoder("ViT-L", 5_000_000, "vit_large_patch16_224", {}, 1024, 24, (512, 8, 16)),
)
"""Smallest first. Decoders keep MAE's ratio to a ViT-B, and are shallower below (MAE, Table 1a: one
block does for fine-tuning)."""


def given_encoder(choices: Choices) -> Encoder:
    """Return the encoder that the user gives, by its name or its arguments, or by both.

    Args:
        choices: The settings.

    Raises:
        ValueError: It is no VisionTransformer of timm.
    """
    name = choices.given.get("model.encoder", ENCODERS[0].timm_name)
    arguments = choices.given.get("model.encoder_args", {})
    with torch.device("meta"):
        vit = create_vit(
            name,
            image_size=choices["model.image_size"],
            patch_size=choices["model.patch_size"],
            in_chans=choices["model.in_chans"],
            encoder_args=arguments,
        )
    width, depth = int(vit.embed_dim), len(vit.blocks)
    near = min(ENCODERS, key=lambda encoder: abs(encoder.width - width))
    return near._replace(
        name=f"{width} wide", timm_name=str(name), arguments={}, width=width, depth=depth
    )
