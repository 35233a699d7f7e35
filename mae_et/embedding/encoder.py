"""The encoder of any checkpoint, with the pooling and the images that it was made for."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import timm
import torch
from accelerate import Accelerator
from timm.data import resolve_data_config
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ..config import IMAGENET_MEAN, IMAGENET_STD, EmbedConfig, ImagesConfig
from ..curriculum import Size, as_pair
from ..data import channel_statistics, normalize
from ..errors import check, check_depths, first_line
from ..model import FROM_ELSEWHERE
from ..weights import (
    Facts,
    Pretrained,
    encoder_weights,
    facts_of,
    find_weights,
    load_encoder,
    warn_of_other_normalisation,
)

log = logging.getLogger(__name__)

PARTS = {"cls_token": "token", "attn_pool.": "map"}
"""Beginnings of the names of weights, and the pooling that needs them."""


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A frozen encoder.

    Args:
        model: Maps normalised images (N, C, H, W) to features (N, D).
        name: Its timm name.
        pool: How it pools; "own" for the only way that its architecture has.
        dim: D, the numbers of an image's features.
        images: timm's data config: input_size (C, H, W), mean, std, crop_pct, ….
        trained_size: (height, width) of the images that it was trained on; None if unknown.
    """

    model: nn.Module
    name: str
    pool: str
    dim: int
    images: dict[str, Any]
    trained_size: tuple[int, int] | None

    def digest(self) -> str:
        """Return a digest of the weights."""
        digest = hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy())
        return digest.hexdigest()

    def on(self, accelerator: Accelerator) -> Callable[[Tensor], Tensor]:
        """Move the model to the device of a process; return pixels there -> features (N, D)."""
        device = accelerator.device
        model = self.model.to(device).eval()
        mean, std = (channel_statistics(self.images[name], device) for name in ("mean", "std"))

        @torch.inference_mode()
        def forward(images: Tensor) -> Tensor:
            with accelerator.autocast():
                features: Tensor = model(normalize(images.to(device), mean, std))
            return features.float()

        return forward


def open_encoder(config: EmbedConfig) -> Encoder:
    """Open the encoder of a checkpoint; options go before what the checkpoint tells.

    Args:
        config: What to compute.

    Raises:
        ValueError: The checkpoint is missing or damaged, does not tell all that is needed, or the
            options do not fit it.
    """
    origin = find_weights(config.checkpoint, prefer_result=True)
    pretrained = origin.read()
    facts = facts_of(origin, pretrained)
    name = config.encoder or facts.encoder
    if name is None or not timm.is_model(name):
        what = "does not tell its architecture" if name is None else f"tells {name!r}"
        got = what if config.encoder is None else f"option {name!r}"
        raise ValueError(
            "model.encoder must be the name of a timm model for checkpoint "
            f"{config.checkpoint}, got: {got}"
        )
    arguments = dict(facts.encoder_args) if name == facts.encoder else {}
    arguments |= config.encoder_args
    allowed = f"with num_heads, which checkpoint {config.checkpoint} does not tell"
    is_known = arguments.get("num_heads", 1) is not None
    check(is_known, "model.encoder_args", config.encoder_args, allowed)
    if config.patch_size is not None:
        arguments["patch_size"] = as_pair(config.patch_size)
    images = _describe_images(config, facts, name)
    pools = _pools(pretrained)
    pool = config.pool or facts.pool or ("avg" if _is_vit(name) else None)
    if config.pool is not None:
        allowed = f"one of {', '.join(pools)}, which are all that {config.checkpoint} ({name}) has"
        check(config.pool in pools, "--pool", config.pool, allowed)
    if pool != "map":  # the weights that nothing uses
        pretrained = _without(pretrained, "attn_pool.")
    if _is_vit(name):  # a classifier may have its norm behind the pooling
        arguments["fc_norm"] = "encoder.fc_norm.weight" in pretrained.weights
    model = _build(name, arguments, images["input_size"], pool)
    _check_patches(model, images["input_size"][1:])
    load_encoder(model, pretrained, config.checkpoint)
    dim = _dim(model.eval(), images["input_size"], name)
    return Encoder(
        model=model,
        name=name,
        pool=pool or "own",
        dim=dim,
        images=images,
        trained_size=facts.image_size,
    )


def warn_of_conflicts(config: EmbedConfig, encoder: Encoder) -> None:
    """Warn of options that differ from what the encoder was trained on.

    Args:
        config: What to compute.
        encoder: The encoder, as `open_encoder` returns it.
    """
    images = encoder.images
    ours = ImagesConfig(mean=tuple(images["mean"]), std=tuple(images["std"]))
    warn_of_other_normalisation(config.checkpoint, ours)
    size = tuple(images["input_size"][1:])
    if encoder.trained_size not in (None, size):
        log.warning(
            "%s was trained on images of %d × %d pixels, and gets images of %d × %d",
            *(config.checkpoint, *encoder.trained_size, *size),
        )


def _pools(pretrained: Pretrained) -> list[str]:
    """Return the ways in which the encoder with these weights can pool."""
    names = {**encoder_weights(pretrained, {}), **(pretrained.by_file_names or {})}
    found = [pool for start, pool in PARTS.items() if any(name.startswith(start) for name in names)]
    return ["avg", *found]


def _without(pretrained: Pretrained, start: str) -> Pretrained:
    """Return the weights but for those whose names in the encoder begin with a word."""
    for weights in (pretrained.weights, pretrained.by_file_names or {}):
        for name in [name for name in weights if name.removeprefix("encoder.").startswith(start)]:
            del weights[name]
    return pretrained


def _is_vit(name: str) -> bool:
    """Return whether a timm model is a VisionTransformer that pools in any way it is asked to."""
    module: str = timm.model_entrypoint(name).__module__
    modules = ("timm.models.vision_transformer", "timm.models.deit")
    return module in modules and "distilled" not in name


def _describe_images(config: EmbedConfig, facts: Facts, name: str) -> dict[str, Any]:
    """Return timm's data config of the images that the encoder gets.

    Raises:
        ValueError: It is not known how to normalise them.
    """
    default = timm.get_pretrained_cfg(name)
    size = config.image_size or facts.image_size or (default.input_size[1:] if default else 224)
    in_chans = config.in_chans or facts.in_chans or 3
    allowed = f"{facts.in_chans}, the channels of checkpoint {config.checkpoint}"
    check(facts.in_chans in (None, in_chans), "model.in_chans", in_chans, allowed)
    images = {**facts.images, "input_size": (in_chans, *as_pair(size))}
    images.setdefault("interpolation", "bicubic")
    for field, imagenet in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
        value = getattr(config, field) or images.get(field) or (imagenet if in_chans == 3 else ())
        allowed = f"{in_chans} numbers, one per channel"
        if not value:
            allowed += f" (checkpoint {config.checkpoint} tells none)"
        check(len(value) == in_chans, f"data.{field}", list(value), allowed)
        images[field] = tuple(value)
    if config.eval_crop is not None:
        images["crop_pct"] = config.eval_crop
    resolved: dict[str, Any] = resolve_data_config({}, pretrained_cfg=images)
    return resolved


def _build(
    name: str, arguments: Mapping[str, Any], input_size: tuple[int, int, int], pool: str | None
) -> nn.Module:
    """Build a timm model without a head and with new weights.

    Args:
        name: Its name.
        arguments: Its further arguments.
        input_size: (C, H, W) of the images.
        pool: How it pools; None for its own way.

    Raises:
        ValueError: timm does not accept the arguments.
    """
    check_depths("model.encoder_args", arguments)
    taken = FROM_ELSEWHERE & arguments.keys()
    allowed = "without names of weights, which --checkpoint gives"
    check(not taken, "model.encoder_args", sorted(taken), allowed)
    in_chans, *size = input_size
    default = timm.get_pretrained_cfg(name)
    chosen: dict[str, Any] = {"num_classes": 0, "in_chans": in_chans}
    if pool is not None:
        chosen["global_pool"] = pool
    if default is None or default.fixed_input_size:
        chosen["img_size"] = tuple(size)
    try:
        model: nn.Module = timm.create_model(name, pretrained=False, **{**arguments, **chosen})
    except Exception as error:  # an unknown layer raises a KeyError, a bad number anything
        raise ValueError(
            f"model.encoder {name!r} can't be built with {dict(arguments) | chosen}: "
            f"{first_line(error)}"
        ) from error
    return model


def _check_patches(model: nn.Module, size: Size) -> None:
    """Check that the patches of a VisionTransformer divide its images; timm would cut off a rest.

    Raises:
        ValueError: They do not.
    """
    if not isinstance(model, VisionTransformer):
        return
    patch_size = model.patch_embed.patch_size
    ok = all(side % patch == 0 for side, patch in zip(as_pair(size), patch_size, strict=True))
    check(ok, "model.image_size", size, f"a multiple of the patch size {patch_size}")


@torch.inference_mode()
def _dim(model: nn.Module, input_size: tuple[int, int, int], name: str) -> int:
    """Return the length of the vector that a model makes of an image.

    Raises:
        ValueError: It makes none.
    """
    try:
        features = model(torch.zeros(1, *input_size))
    except Exception as error:  # networks raise anything when a size does not suit them
        raise ValueError(
            f"model.image_size {list(input_size[1:])} does not fit {name}: {first_line(error)}"
        ) from error
    shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    check(len(shape) == 2, f"model.encoder {name}", shape, "a model that makes a vector of images")
    return int(shape[1])
