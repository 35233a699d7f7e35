"""Networks by name: any timm model, or your own constructor as "module:callable"."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import timm
from torch import nn

from ..curriculum import Size
from ..errors import check_depths, first_line
from ..user_code import import_callable


class Backbone(NamedTuple):
    """A network with new weights."""

    module: nn.Module
    build: Callable[[Size], nn.Module] | None
    """Constructs it at another size; None if it takes images of any size, or knows none."""
    arguments: dict[str, Any]
    """What its constructor was called with."""
    refused: set[str]
    """The wanted arguments that its constructor does not have."""


def total_stride(network: Any) -> int | None:
    """Return the pixels between the positions of a network's last map, if timm knows them.

    Args:
        network: The network.
    """
    info = getattr(network, "feature_info", None)
    told = info[-1].get("reduction") if isinstance(info, list) and info else None
    return None if told is None else int(told)


def build_backbone(
    name: str, *, arguments: Mapping[str, Any], wanted: Mapping[str, Any]
) -> Backbone:
    """Build a network with new weights.

    Args:
        name: Name of a timm model, or "module:callable": a function or class on Python's path that
            returns a module.
        arguments: What its constructor is called with.
        wanted: The same, as far as the constructor has these arguments.

    Raises:
        ValueError: The network cannot be found or built.
    """
    check_depths("model.encoder_args", arguments)
    constructor = import_callable(name, "model.encoder") if ":" in name else _timm_constructor(name)
    model, refused = _construct(name, constructor, dict(arguments), dict(wanted))
    accepted = {name: value for name, value in wanted.items() if name not in refused}
    is_dynamic = getattr(model, "dynamic_img_size", False)  # timm's word for it
    takes_size = "img_size" in accepted and not is_dynamic
    takes_size = takes_size and (  # not everything that **kwargs swallows is used
        _names_argument(constructor, "img_size") or _names_argument(type(model), "img_size")
    )

    def build(size: Size) -> nn.Module:
        return constructor(**arguments, **{**accepted, "img_size": size})

    return Backbone(model, build if takes_size else None, {**arguments, **accepted}, refused)


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
