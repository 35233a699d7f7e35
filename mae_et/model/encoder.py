"""timm's plain VisionTransformer by name, or a one-line error that says why it can't be used."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence, Set
from fnmatch import fnmatch
from typing import Any, NamedTuple

import timm
from timm.layers import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from ..curriculum import Size, as_pair, as_size
from ..errors import check, check_depths

FROM_ELSEWHERE = frozenset(
    {"checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
)
"""Arguments of timm that name weights to open or fetch, which is not how weights are given here."""


VITS = ("vit_*", "deit_*", "flexivit_*")
"""What timm calls its VisionTransformers."""


class BuiltEncoder(NamedTuple):
    """The encoder of a masked autoencoder, and its masks."""

    module: nn.Module
    arguments: dict[str, Any]
    """The arguments of the timm model beside its sizes."""
    dim: int
    """D, the width of the tokens that the decoder gets."""
    num_prefix_tokens: int
    full_size: Size
    patch_size: tuple[int, int]
    """(height, width) in pixels of the patches that are predicted."""
    mask_block: int
    """Such patches on a side of a mask unit."""


def with_class_tokens(
    encoder_args: Mapping[str, Any] | None, num_class_tokens: int | None
) -> dict[str, Any]:
    """Return the arguments of a timm VisionTransformer that has some number of class tokens.

    They are one class token and registers: to the network all are learned tokens before those of
    the patches, each with a position of its own, so this is the encoder of Pixio
    (https://arxiv.org/abs/2512.15715), and plain timm opens it. There, pooling the patches leaves
    all of them out, and pooling "token" takes the first.

    Args:
        encoder_args: The user's arguments of the timm model.
        num_class_tokens: Their number; None for those that the model has.

    Raises:
        ValueError: The number is below 1, or the arguments have one of their own.
    """
    arguments = dict(encoder_args or {})
    if num_class_tokens is None:
        return arguments
    check(num_class_tokens >= 1, "model.num_class_tokens", num_class_tokens, "at least 1 or null")
    taken = sorted({"class_token", "reg_tokens"} & arguments.keys())
    allowed = "null where model.encoder_args has " + " and ".join(taken)
    check(not taken, "model.num_class_tokens", num_class_tokens, allowed)
    return {**arguments, "class_token": True, "reg_tokens": num_class_tokens - 1}


def build_vit(
    name: str,
    encoder_args: dict[str, Any],
    *,
    image_size: Size,
    patch_size: Size | None,
    in_chans: int,
    mask_block: int,
) -> BuiltEncoder:
    """Build the encoder of MAE, whose mask units are as large as the user wants.

    Args:
        name: See `create_vit`.
        encoder_args: See `create_vit`.
        image_size: See `create_vit`.
        patch_size: See `create_vit`.
        in_chans: See `create_vit`.
        mask_block: Patches on a side of a mask unit.

    Raises:
        ValueError: See `create_vit`.
    """
    vit = create_vit(
        name,
        image_size=image_size,
        patch_size=patch_size,
        in_chans=in_chans,
        encoder_args=encoder_args,
        num_classes=0,
        fc_norm=False,  # the norm is applied to every token, before any pooling
    )
    return BuiltEncoder(
        module=vit,
        arguments=encoder_args,
        dim=vit.embed_dim,
        num_prefix_tokens=vit.num_prefix_tokens,
        full_size=as_size(*vit.patch_embed.img_size),
        patch_size=vit.patch_embed.patch_size,
        mask_block=mask_block,
    )


def create_vit(
    name: str,
    *,
    image_size: Size,
    patch_size: Size | None,
    in_chans: int,
    encoder_args: dict[str, Any] | None = None,
    **arguments: Any,
) -> VisionTransformer:
    """Create a timm VisionTransformer with absolute positions and new weights.

    Args:
        name: Name of the timm model.
        image_size: Pixels or (height, width), multiples of the patch size.
        patch_size: Pixels or (height, width); None for the model's default.
        in_chans: Image channels.
        encoder_args: Further arguments of the timm model, given by the user.
        arguments: Further arguments of the timm model, given by the caller.

    Raises:
        ValueError: timm does not know the name or does not accept the arguments, or the model is
            not a VisionTransformer with absolute positions.
    """
    arguments = {"img_size": as_pair(image_size), "in_chans": in_chans, **arguments}
    if patch_size is not None:
        arguments["patch_size"] = as_pair(patch_size)
    kind = "timm VisionTransformer with absolute positions"
    try:
        encoder: VisionTransformer = create_timm(name, kind, VITS, encoder_args, arguments)
    except ValueError:  # arguments that all ViTs have and other networks may not
        if timm.is_model(name) and not any(fnmatch(name, pattern) for pattern in VITS):
            raise _no_vit(name, timm.model_entrypoint(name).__module__.rpartition(".")[2]) from None
        raise
    _check_vit(encoder, name, image_size)
    return encoder


def _no_vit(name: str, kind: str) -> ValueError:
    """Return the error about a network that is no plain VisionTransformer."""
    return ValueError(
        f"model.encoder must be a plain timm VisionTransformer with absolute positions (vit_*, "
        f"deit_*, flexivit_*) with model.method mae, got {name!r} ({kind}); --model.method simmim "
        "pretrains any network with a map of features, hiera a Hiera, and mae-et-finetune trains "
        "any on labels"
    )


def create_timm(
    name: str,
    kind: str,
    patterns: Sequence[str],
    encoder_args: Mapping[str, Any] | None,
    arguments: Mapping[str, Any],
) -> Any:
    """Create a timm model with new weights.

    Args:
        name: Its name.
        kind: What it should be, for messages: "timm Hiera".
        patterns: What such models are called, for the names that are like a wrong one.
        encoder_args: The user's arguments.
        arguments: Those that options of their own set, sizes in particular.

    Raises:
        ValueError: timm does not know the name, or does not accept the arguments.
    """
    if not timm.is_model(name):
        similar = ", ".join(
            difflib.get_close_matches(name, timm.list_models(list(patterns)), n=3, cutoff=0.4)
        )
        raise ValueError(
            f"model.encoder must be the name of a {kind.split(' with ')[0]}, got {name!r}"
            + (f"; nearest: {similar}" if similar else "")
        )
    check_arguments(encoder_args or {}, {"patch_size", "patch_drop_rate", *arguments})
    given = {**arguments, **(encoder_args or {})}
    try:
        return timm.create_model(name, pretrained=False, **given)
    except Exception as error:  # an unknown layer raises a KeyError, a bad number anything
        raise ValueError(
            f"model.encoder must be a {kind} that accepts {given}, got {name!r}: "
            f"{type(error).__name__} {error}"
        ) from error


def check_arguments(encoder_args: Mapping[str, Any], taken: Set[str]) -> None:
    """Check the user's arguments of an encoder.

    Args:
        encoder_args: The arguments.
        taken: Those that options of their own set.

    Raises:
        ValueError: They are nested too deeply, name weights, or are set by other options.
    """
    check_depths("model.encoder_args", encoder_args)
    named = FROM_ELSEWHERE & encoder_args.keys()
    if named:
        raise ValueError(
            f"model.encoder_args must not have {', '.join(sorted(named))}; weights to start from "
            "are given by --checkpoint"
        )
    both = taken & encoder_args.keys()
    if both:
        raise ValueError(
            f"model.encoder_args must not have {', '.join(sorted(both))}, which "
            "model.image_size, model.patch_size, model.in_chans and the method itself set"
        )


def _check_vit(encoder: Any, name: str, image_size: Size) -> None:
    """Check that a timm model is one that can be pretrained.

    Raises:
        ValueError: It is not a plain VisionTransformer with absolute positions, or its patches do
            not divide the images.
    """
    if type(encoder) is not VisionTransformer or type(encoder.patch_embed) is not PatchEmbed:
        raise _no_vit(name, type(encoder).__name__)
    if encoder.attn_pool is not None:
        raise ValueError(f"model.encoder must not pool by attention, got {name!r}")
    if encoder.pos_embed is None:
        raise ValueError(f"model.encoder must have absolute positions, got {name!r} without any")
    for side, patch in zip(as_pair(image_size), encoder.patch_embed.patch_size, strict=True):
        if side % patch:
            raise ValueError(
                f"model.image_size must be a multiple of the patch size {patch}, got {image_size}"
            )
