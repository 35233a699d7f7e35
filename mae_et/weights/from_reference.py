"""Translate checkpoints of MAE's reference implementation into our terms.

Source: https://github.com/facebookresearch/mae.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .files import num_blocks

REFERENCE_HEADS = {768: 12, 1024: 16, 1280: 16}
"""Encoder width -> attention heads of the reference implementation's ViT-B, L and H; the only fact
about a checkpoint that its shapes do not reveal."""

REFERENCE_DECODER_HEADS = 16


def reference_arguments(weights: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """Return the arguments of `MaskedAutoencoder` for the weights of a ViT-B, L or H.

    Args:
        weights: The weights by the names of the reference implementation.
        path: Where the weights come from, for messages.

    Raises:
        ValueError: The weights are not of such a model, or lack its decoder.
    """
    needed = ("pos_embed", "patch_embed.proj.weight", "decoder_embed.weight", "decoder_pred.weight")
    missing = [name for name in needed if name not in weights]
    if missing:
        raise ValueError(
            f"checkpoint {path} must be a masked autoencoder with its decoder, got one without "
            f"{', '.join(missing)}"
        )
    dimensions = [weights[name].ndim for name in needed]
    if dimensions != [3, 4, 2, 2]:
        raise ValueError(
            f"checkpoint {path} is of another architecture ({', '.join(needed)} have {dimensions} "
            "dimensions for [3, 4, 2, 2])"
        )
    embed_dim, in_chans, *patch_size = weights["patch_embed.proj.weight"].shape
    if embed_dim not in REFERENCE_HEADS:
        raise ValueError(
            f"checkpoint {path} must be a ViT-B, L or H (width {list(REFERENCE_HEADS)}), "
            f"got width {embed_dim}"
        )
    side = round((weights["pos_embed"].shape[1] - 1) ** 0.5)
    return {
        "encoder": "vit_base_patch16_224",
        "encoder_args": {
            "embed_dim": embed_dim,
            "depth": num_blocks(weights, "blocks"),
            "num_heads": REFERENCE_HEADS[embed_dim],
        },
        "image_size": (side * patch_size[0], side * patch_size[1]),
        "patch_size": tuple(patch_size),
        "in_chans": in_chans,
        "decoder_dim": weights["decoder_embed.weight"].shape[0],
        "decoder_depth": num_blocks(weights, "decoder_blocks"),
        "decoder_num_heads": REFERENCE_DECODER_HEADS,
    }
