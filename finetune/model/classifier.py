"""Build a classifier: a backbone with a head, and the weights that it starts from."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import timm
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_layer_decay
from torch import nn

from mae_et.curriculum import Size, as_pair, as_size
from mae_et.model import SizedModel, create_vit, total_stride
from mae_et.model.networks import pvt
from mae_et.weights import Origin, TimmFolder, find_weights, load_encoder

from ..config import ClassifierConfig
from .backbone import class_axes, create_encoder, create_model

log = logging.getLogger(__name__)

VITS = ("timm.models.vision_transformer", "timm.models.deit")
"""The modules of timm's VisionTransformers."""


def build_classifier(
    model: ClassifierConfig,
    class_names: Sequence[str],
    checkpoint: str,
    *,
    keep_head: bool = False,
    start_head: Callable[[nn.Module], object] | None = None,
) -> SizedModel:
    """Build a classifier with the weights of an encoder, or with new ones.

    The head is new, and so is the norm after average pooling, as in the reference implementation
    of MAE's fine-tuning. Positions are resampled to the image size.

    Args:
        model: The section `model` of the configuration.
        class_names: The names of the classes by number.
        checkpoint: The encoder, as `mae_et.weights.find_weights` finds it; "none" for new weights.
        keep_head: As in `load_encoder`.
        start_head: Is called with the network if its encoder is the checkpoint's and its head new.

    Raises:
        ValueError: The model cannot be built, or the checkpoint is not its encoder.
    """
    arguments = _with_pooling(model)
    if model.patch_size is not None:
        arguments["patch_size"] = as_size(*as_pair(model.patch_size))
    built: dict[str, Any] = {
        "image_size": model.image_size,
        "in_chans": model.in_chans,
        "num_classes": len(class_names),
        "model_args": arguments,
    }
    classifier = create_model(model.encoder, drop_path=model.drop_path, **built)
    if checkpoint != "none":
        head = getattr(classifier.model, "head", None)
        if isinstance(classifier.model, VisionTransformer) and isinstance(head, nn.Linear):
            nn.init.trunc_normal_(head.weight, std=2e-5)  # as in the reference
        origin = find_weights(checkpoint, prefer_result=True)
        _warn_of_other_pooling(classifier.model, origin)
        pretrained = origin.read()
        has_head = load_encoder(
            classifier.model,
            pretrained,
            checkpoint,
            class_names,
            class_axes=class_axes(classifier.model, model.encoder, **built),
            keep_head=keep_head,
        )
        if start_head is not None and not has_head:
            start_head(classifier.model)
    return classifier


def build_encoder(model: ClassifierConfig, checkpoint: str) -> nn.Module:
    """Build the encoder of a checkpoint, which maps images (N, C, H, W) to features (N, D).

    Features of a VisionTransformer or a PVT are pooled as `model.global_pool` says, after the norm
    that the checkpoint has; other networks have a way of their own.

    Args:
        model: The section `model` of the configuration.
        checkpoint: The encoder, as `mae_et.weights.find_weights` finds it.

    Raises:
        ValueError: The model cannot be built, or the checkpoint is not its encoder.
    """
    origin = find_weights(checkpoint, prefer_result=True)
    pretrained = origin.read()
    if not _is_vit(model.encoder):
        encoder: nn.Module = create_encoder(
            model.encoder,
            image_size=model.image_size,
            in_chans=model.in_chans,
            model_args=_with_pooling(model),
        )
        _warn_of_other_pooling(encoder, origin)
        load_encoder(encoder, pretrained, checkpoint)
        return encoder
    encoder = create_vit(
        model.encoder,
        image_size=model.image_size,
        patch_size=model.patch_size,
        in_chans=model.in_chans,
        num_classes=0,
        global_pool=model.global_pool or "token",
        # present if a classifier averages patches
        fc_norm="encoder.fc_norm.weight" in pretrained.weights,
        encoder_args=model.encoder_args,
    )
    load_encoder(encoder, pretrained, checkpoint)
    return encoder


def _with_pooling(model: ClassifierConfig) -> dict[str, Any]:
    """Return the network's arguments, and `model.global_pool` where it has a choice."""
    arguments = dict(model.encoder_args)
    has_choice = _module(model.encoder) in (*VITS, pvt.__name__)
    if has_choice and model.global_pool is not None:
        arguments.setdefault("global_pool", model.global_pool)
    return arguments


def _warn_of_other_pooling(network: nn.Module, origin: Origin) -> None:
    """Warn if a network takes the class token, and its checkpoint was trained with the average."""
    config = origin.config if isinstance(origin, TimmFolder) else {}
    stated = dict(config.get("model_args") or {}).get("global_pool")
    if stated == "avg" and getattr(network, "global_pool", None) == "token":
        log.warning(
            "%s was pretrained with the average of its patches, and its class token, which is "
            "taken here, has learned nothing: --model.global_pool avg",
            origin.shown,
        )


def _module(name: str) -> str | None:
    """Return the module of a timm model; None if it is none."""
    if ":" in name or not timm.is_model(name):
        return None
    module: str = timm.model_entrypoint(name).__module__
    return module


def _is_vit(name: str) -> bool:
    """Return whether a timm model is a VisionTransformer."""
    return _module(name) in VITS


def size_multiple(model: nn.Module, full_size: Size) -> Size:
    """Return what EfficientTrain's sizes are multiples of: the network's total stride, if it fits.

    A stride of 32 pixels, as most networks have, means 32 for 224 pixels, and 4 for 28. For
    VisionTransformers it is the patch size, and for networks that do not tell their stride, 32.

    Args:
        model: The backbone.
        full_size: Its full size in pixels.
    """
    patches = as_pair(getattr(getattr(model, "patch_embed", None), "patch_size", 1))
    stride = total_stride(model)
    if isinstance(model, VisionTransformer) or (stride is None and any(32 % p for p in patches)):
        return patches
    height, width = as_pair(full_size)
    return math.gcd(height, stride or 32), math.gcd(width, stride or 32)


def parameter_groups(
    model: nn.Module, weight_decay: float, *, layer_decay: float
) -> list[dict[str, Any]]:
    """Return timm's groups by layer, with their learning-rate scale and weight decay.

    Args:
        model: The backbone.
        weight_decay: Weight decay of all parameters that timm penalises.
        layer_decay: Factor of a layer's learning rate relative to the layer above it.
    """
    unpenalised: set[str] = getattr(model, "no_weight_decay", set)()
    groups: list[dict[str, Any]] = param_groups_layer_decay(
        model, weight_decay, no_weight_decay_list=unpenalised, layer_decay=layer_decay
    )
    return groups
