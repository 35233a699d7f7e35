"""What a checkpoint tells of its encoder and images, so that nobody has to type it again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..curriculum import as_pair
from ..model import with_class_tokens
from ..runs import Run
from .files import num_blocks
from .from_reference import REFERENCE_HEADS
from .from_transformers import vit_mae_arguments
from .origin import Origin, RunCheckpoint, TimmFolder, TransformersFolder
from .pretrained import Pretrained

HEADS = {192: 3, 384: 6, **REFERENCE_HEADS}
"""Width -> attention heads of the ViT-Ti, S, B, L and H, which shapes do not reveal."""

OF_IMAGES = ("img_size", "in_chans", "num_classes")
"""Arguments of timm's models that are facts of their own, or are chosen anew."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a checkpoint tells; None for what it does not.

    Args:
        encoder: Name of a timm model.
        encoder_args: The further arguments with which timm builds it; num_heads is None where
            only the shapes are known, and the width is no usual one.
        image_size: (height, width) in pixels.
        in_chans: Image channels.
        pool: How a classifier, or a model with attention pooling, pools: timm's global_pool.
        images: timm's description of the images: mean, std, crop_pct, interpolation, crop_mode.
    """

    encoder: str | None = None
    encoder_args: dict[str, Any] = field(default_factory=dict)
    image_size: tuple[int, int] | None = None
    in_chans: int | None = None
    pool: str | None = None
    images: dict[str, Any] = field(default_factory=dict)


def facts_of(origin: Origin, pretrained: Pretrained | None = None) -> Facts:
    """Return what a checkpoint tells of its encoder and images.

    Args:
        origin: The checkpoint, as `find_weights` returns it.
        pretrained: Its weights, as `Origin.read` returns them; None to read them if only their
            shapes tell.

    Raises:
        ValueError: Its configuration is damaged, or its weights are, if they are read.
    """
    try:
        match origin:
            case TransformersFolder():
                return _of_mae(vit_mae_arguments(origin.config), {})
            case RunCheckpoint():
                config = Run(origin.checkpoint.run_folder).read_config()
                return _of_mae(config["model"], origin.normalisation)
            case TimmFolder() if "architecture" in origin.config:
                return _of_timm(origin)
        return _of_shapes((pretrained or origin.read()).weights)
    except (KeyError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
        raise ValueError(
            f"checkpoint {origin.path} has a damaged configuration ({type(error).__name__}: "
            f"{error})"
        ) from error


def _of_mae(arguments: Mapping[str, Any], images: dict[str, Any]) -> Facts:
    """The facts of a masked autoencoder, by the arguments of `MaskedAutoencoder`."""
    patch_size = arguments.get("patch_size")
    patch = {} if patch_size is None else {"patch_size": as_pair(patch_size)}
    number = arguments.get("num_class_tokens")
    return Facts(
        encoder=arguments.get("encoder", "vit_base_patch16_224"),
        encoder_args={**with_class_tokens(arguments.get("encoder_args"), number), **patch},
        image_size=_pair(arguments.get("image_size", 224)),
        in_chans=int(arguments.get("in_chans", 3)),
        images=dict(images),
    )


def _of_timm(origin: TimmFolder) -> Facts:
    """The facts in the config.json of a timm folder."""
    config = origin.config
    images = dict(config.get("pretrained_cfg") or {})
    arguments = dict(config.get("model_args") or {})
    in_chans, *size = images.pop("input_size", None) or (None, None)
    size = arguments.get("img_size") or (size if len(size) == 2 else None)
    stated = arguments.pop("global_pool", None)
    pool = stated or config.get("global_pool")
    is_chosen = config.get("num_classes") or pool == "map" or stated == "avg"  # as simmim pools
    kept = ("mean", "std", "crop_pct", "interpolation", "crop_mode")
    return Facts(
        encoder=str(config["architecture"]),
        encoder_args={name: arguments[name] for name in arguments if name not in OF_IMAGES},
        image_size=_pair(size) if size else None,
        in_chans=arguments.get("in_chans", in_chans),
        pool=pool if is_chosen else None,
        images={name: images[name] for name in kept if images.get(name) is not None},
    )


def _of_shapes(weights: Mapping[str, Tensor]) -> Facts:
    """The facts that shapes reveal: of a VisionTransformer all but its heads, of others none."""
    kernel = weights.get("encoder.patch_embed.proj.weight")
    table, mlp = weights.get("encoder.pos_embed"), weights.get("encoder.blocks.0.mlp.fc1.weight")
    if kernel is None or kernel.ndim != 4 or table is None or mlp is None:
        return Facts()
    width, in_chans, *patch = kernel.shape
    has_class_token = "encoder.cls_token" in weights
    num_patches = table.shape[1] - has_class_token
    side = math.isqrt(num_patches)
    arguments = {
        "embed_dim": width,
        "depth": num_blocks(weights, "encoder.blocks"),
        "patch_size": (patch[0], patch[1]),
        "mlp_ratio": mlp.shape[0] / width,
        "num_heads": HEADS.get(width),
        **({} if has_class_token else {"class_token": False}),
    }
    return Facts(
        encoder="vit_base_patch16_224",
        encoder_args=arguments,
        image_size=(side * patch[0], side * patch[1]) if side**2 == num_patches else None,
        in_chans=in_chans,
    )


def _pair(size: Any) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)
