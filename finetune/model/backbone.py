"""Backbones by name: any timm model, or your own constructor as "module:callable"."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

from mae_et.curriculum import Size, as_pair, as_size
from mae_et.model import SizedModel, build_backbone

log = logging.getLogger(__name__)


def create_model(
    name: str,
    *,
    image_size: Size,
    in_chans: int,
    num_classes: int,
    drop_path: float = 0.0,
    model_args: dict[str, Any] | None = None,
) -> SizedModel:
    """Build a backbone with new weights that takes images of several sizes.

    Args:
        name: Name of a timm model, or "module:callable": a function or class on Python's path that
            returns a module which turns images (N, C, H, W) into logits (N, classes). It is called
            with num_classes=, and with those of img_size=, in_chans= and drop_path_rate= that it
            takes. One that depends on the size must take img_size=, and choose windows that fit it;
            see `mae_et.model.twins` for the parameters that may follow the size. One whose
            attribute `dynamic_img_size` is true takes images of any size as it is.
        image_size: Full size in pixels, or (height, width).
        in_chans: Image channels.
        num_classes: Classes of the output.
        drop_path: Rate of stochastic depth, in [0, 1); models without it warn.
        model_args: The user's further arguments for the constructor.

    Raises:
        ValueError: The model cannot be found, built, or run at the full size.
    """
    wanted = {
        "img_size": as_size(*as_pair(image_size)),
        "in_chans": in_chans,
        "drop_path_rate": drop_path,
    }
    taken = {"num_classes", *wanted} & (model_args or {}).keys()
    if taken:
        raise ValueError(
            f"model.encoder_args must not have {', '.join(sorted(taken))}, set by "
            "model.image_size, model.in_chans, model.drop_path and the data set"
        )
    arguments = {"num_classes": num_classes, **(model_args or {})}
    built = build_backbone(name, arguments=arguments, wanted=wanted)
    if drop_path and "drop_path_rate" in built.refused:
        log.warning("%s has no drop_path_rate; model.drop_path %s is unused", name, drop_path)
    sized = SizedModel(
        built.module,
        full_size=image_size,
        in_chans=in_chans,
        num_classes=num_classes,
        build=built.build,
    )
    sized.check_input_size(image_size)
    return sized


def create_encoder(
    name: str, *, image_size: Size, in_chans: int, model_args: dict[str, Any]
) -> nn.Module:
    """Build a backbone without a head, with new weights, for images of one size.

    Args:
        name: See `create_model`.
        image_size: Pixels or (height, width).
        in_chans: Image channels.
        model_args: The user's further arguments.

    Raises:
        ValueError: The model cannot be found or built.
    """
    wanted = {"img_size": as_size(*as_pair(image_size)), "in_chans": in_chans}
    return build_backbone(name, arguments={"num_classes": 0, **model_args}, wanted=wanted).module


def class_axes(
    model: nn.Module,
    name: str,
    *,
    image_size: Size,
    in_chans: int,
    num_classes: int,
    model_args: dict[str, Any],
) -> dict[str, tuple[int, ...]]:
    """Return the axes of a model's tensors that number the classes, by the names of the tensors.

    They are what changes with one class more, whatever the model calls its head.

    Args:
        model: The model; the other arguments are those that `create_model` has built it with.
        name: See `create_model`.
        image_size: See `create_model`.
        in_chans: See `create_model`.
        num_classes: See `create_model`.
        model_args: See `create_model`.

    Returns:
        The axes; none, and a warning, if the model can't be built with one class more.
    """
    own, larger = model.state_dict(), dict[str, Tensor]()
    for device in ("meta", "cpu"):  # where nothing is computed, if the network can be built there
        try:
            with torch.random.fork_rng(devices=[]), torch.device(device):
                larger = create_model(
                    name,
                    image_size=image_size,
                    in_chans=in_chans,
                    num_classes=num_classes + 1,
                    model_args=model_args,
                ).model.state_dict()
            break
        except ValueError as error:
            problem = error
    else:
        log.warning("which weights of %s are its head's is unknown: %s", name, problem)
    changed = {
        tensor: tuple(
            axis for axis, side in enumerate(value.shape) if larger[tensor].shape[axis] != side
        )
        for tensor, value in own.items()
        if tensor in larger and larger[tensor].ndim == value.ndim
    }
    return {tensor: axes for tensor, axes in changed.items() if axes}
