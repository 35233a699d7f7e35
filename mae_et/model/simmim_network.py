"""The network of SimMIM, and the mask units that fit it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from ..curriculum import Size, as_pair, as_size
from ..errors import check
from .backbone import Backbone, build_backbone
from .encoder import check_arguments
from .feature_maps import Stem, replace_masked


def build_network(
    name: str,
    encoder_args: dict[str, Any],
    image_size: Size,
    patch_size: Size | None,
    in_chans: int,
) -> Backbone:
    """Build a network whose pooled features are the average of its map, if it can pool so.

    A class token learns nothing of its own here.

    Args:
        name: See `build_backbone`.
        encoder_args: The user's further arguments.
        image_size: Pixels or (height, width).
        patch_size: Pixels or (height, width) of its patches; None for its default.
        in_chans: Image channels.

    Raises:
        ValueError: The network can't be found or built.
    """
    given = {"img_size": as_size(*as_pair(image_size)), "in_chans": in_chans}
    check_arguments(encoder_args, {"num_classes", *given, *(["patch_size"] if patch_size else [])})
    arguments: dict[str, Any] = {"num_classes": 0, **encoder_args}
    if patch_size is not None:
        arguments["patch_size"] = as_size(*as_pair(patch_size))
    pooling = {"global_pool": "avg", "fc_norm": False}
    wanted = {**given, **pooling, "drop_path_rate": 0.0}  # which Swin would have by itself
    return build_backbone(
        name,
        arguments=arguments,
        wanted={key: value for key, value in wanted.items() if key not in arguments},
    )


def with_hook_of(built: Backbone, stem: Stem | None) -> Callable[[Size], nn.Module] | None:
    """Return the constructor of a network at other sizes, with the hook of its stem.

    Args:
        built: The network.
        stem: Its stem; None if it has no tokens.
    """
    if built.build is None or stem is None:
        return built.build
    build = built.build

    def with_hook(size: Size) -> nn.Module:
        network = build(size)
        network.get_submodule(stem.name).register_forward_hook(replace_masked)
        return network

    return with_hook


def check_unit(unit: tuple[int, int], size: tuple[int, int], token: tuple[int, int]) -> None:
    """Check that images are whole mask units, and units are whole tokens.

    Args:
        unit: (height, width) in pixels of a mask unit.
        size: Those of the images.
        token: Those of the tokens after the stem.

    Raises:
        ValueError: They are not.
    """
    shown, pairs = as_size(*unit), list(zip(unit, size, token, strict=True))
    ok = all(0 < side <= limit for side, limit, _ in pairs)
    check(ok, "model.mask_unit", shown, f"at most the image size {as_size(*size)}")
    allowed = f"a multiple of {as_size(*token)} pixels, the network's tokens after its stem"
    check(all(side % least == 0 for side, _, least in pairs), "model.mask_unit", shown, allowed)
    allowed = f"a divisor of model.image_size {as_size(*size)}"
    check(all(limit % side == 0 for side, limit, _ in pairs), "model.mask_unit", shown, allowed)
    two = math.prod(limit // side for side, limit, _ in pairs) >= 2
    allowed = f"of at most half of the image, {as_size(*size)}, of which some must stay visible"
    check(two, "model.mask_unit", shown, allowed)
