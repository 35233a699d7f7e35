"""Backbones by name: any timm model, or your own constructor as "module:callable"."""

from __future__ import annotations

import difflib
import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor, nn

from mae_et.config import import_callable
from mae_et.curriculum import Size, as_pair, as_size
from mae_et.errors import check_depths, first_line
from mae_et.model import SizedModel

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
            see `mae_et.model.any_size` for the parameters that may follow the size. One whose
            attribute `dynamic_img_size` is true takes images of any size as it is.
        image_size: Full size in pixels, or (height, width).
        in_chans: Image channels.
        num_classes: Classes of the output.
        drop_path: Rate of stochastic depth, in [0, 1); models without it warn.
        model_args: The user's further arguments for the constructor.

    Raises:
        ValueError: The model cannot be found, built, or run at the full size.
    """
    check_depths("model.encoder_args", model_args or {})
    constructor = import_callable(name, "model.encoder") if ":" in name else _timm_constructor(name)
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
    model, refused = _construct(name, constructor, arguments, wanted)
    if drop_path and "drop_path_rate" in refused:
        log.warning("%s has no drop_path_rate; model.drop_path %s is unused", name, drop_path)
    accepted = {name: value for name, value in wanted.items() if name not in refused}
    is_dynamic = getattr(model, "dynamic_img_size", False)  # timm's word for it
    takes_size = "img_size" in accepted and not is_dynamic
    takes_size = takes_size and (  # not everything that **kwargs swallows is used
        _names_argument(constructor, "img_size") or _names_argument(type(model), "img_size")
    )

    def build(size: Size) -> nn.Module:
        return constructor(**arguments, **{**accepted, "img_size": size})

    sized = SizedModel(
        model,
        full_size=image_size,
        in_chans=in_chans,
        num_classes=num_classes,
        build=build if takes_size else None,
    )
    sized.check_input_size(image_size)
    return sized


def create_encoder(
    name: str, *, image_size: Size, in_chans: int, model_args: dict[str, Any]
) -> nn.Module:
    """Build a backbone of timm without a head, with new weights, for images of one size.

    Args:
        name: Name of the timm model.
        image_size: Pixels or (height, width).
        in_chans: Image channels.
        model_args: The user's further arguments.

    Raises:
        ValueError: The model cannot be found or built.
    """
    check_depths("model.encoder_args", model_args)
    wanted = {"img_size": as_size(*as_pair(image_size)), "in_chans": in_chans}
    arguments = {"num_classes": 0, **model_args}
    return _construct(name, _timm_constructor(name), arguments, wanted)[0]


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


def _construct(
    name: str,
    constructor: Callable[..., nn.Module],
    arguments: dict[str, Any],
    wanted: dict[str, Any],
) -> tuple[nn.Module, set[str]]:
    """Call a constructor with the arguments, and with the wanted ones that it does not refuse.

    Returns:
        The model, and the names of the wanted arguments that the constructor refuses.

    Raises:
        ValueError: The model cannot be built, or is not a module.
    """
    try:
        model, refused = _try_arguments(constructor, arguments, wanted)
    except Exception as error:  # constructors may raise anything
        raise ValueError(
            f"model.encoder {name!r} can't be built with {arguments | wanted}: {first_line(error)}"
        ) from error
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model.encoder {name!r} must return a torch.nn.Module, got {type(model).__name__}"
        )
    return model, refused


def _try_arguments(
    constructor: Callable[..., nn.Module], arguments: dict[str, Any], wanted: dict[str, Any]
) -> tuple[nn.Module, set[str]]:
    """Find out by trial what a constructor refuses; most signatures merely pass **kwargs on."""
    refused: set[str] = set()
    while True:
        accepted = {name: value for name, value in wanted.items() if name not in refused}
        try:
            return constructor(**arguments, **accepted), refused
        except TypeError as error:
            named = {name for name in accepted if f"'{name}'" in str(error)}
            if not named or "unexpected keyword argument" not in str(error):
                raise
            refused |= named


def _names_argument(function: Callable[..., Any], name: str) -> bool:
    return name in inspect.signature(function).parameters


def _timm_constructor(name: str) -> Callable[..., nn.Module]:
    """Return the constructor of a timm model.

    Raises:
        ValueError: There is no such model.
    """
    if not timm.is_model(name):
        similar = ", ".join(difflib.get_close_matches(name, timm.list_models(), n=3))
        raise ValueError(
            f"model.encoder must be the name of a timm model or module:callable, got {name!r}"
            + (f"; nearest: {similar}" if similar else "")
        )
    return functools.partial(timm.create_model, name, pretrained=False)
