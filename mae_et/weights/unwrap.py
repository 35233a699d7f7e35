"""Find the weights of a network in a file that someone else's code has written.

Such files wrap a state dict in others (model, state_dict, model_ema, teacher, …), with optimizers
and arguments beside it, and names have the prefixes of what wrapped the network (module.,
_orig_mod., backbone., encoder., …). What is unambiguous is unwrapped, and one line says so.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

log = logging.getLogger(__name__)

AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "teacher")
"""Keys of averaged weights, which go before those of the others, as in timm: these are the ones
that authors evaluate."""

NETWORKS = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "student")
"""Keys of a network's weights, in order of preference."""

MOST_WRAPPERS = 8
"""The most dicts around a state dict; a dict can also hold itself."""

DECODER = ("decoder_", "mask_token")
"""Prefixes of the names of the decoder's weights."""

ANCHOR = "patch_embed.proj.weight"
"""The end of a name that a network of patches has once; what comes before it is the prefix."""

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes of DistributedDataParallel and torch.compile, which are taken off networks without
patches; any other may be the network's own."""


def tensors_of(loaded: object, path: Path) -> dict[str, Tensor]:
    """Return the state dict in what a file holds.

    Args:
        loaded: What `torch.load` has returned.
        path: The file, for messages.

    Raises:
        ValueError: There is none, or there are several of unknown purpose; the message names them.
    """
    for _ in range(MOST_WRAPPERS):
        if not isinstance(loaded, Mapping):
            break
        inner = [key for key, value in loaded.items() if isinstance(key, str) and _holds(value)]
        known = next((key for key in (*AVERAGES, *NETWORKS) if key in inner), None)
        tensors = _tensors(loaded)
        if known is None and _has_weights(tensors):
            return tensors
        if known is None and len(inner) != 1:
            break
        key = known or inner[0]
        if len(inner) > 1:
            others = ", ".join(other for other in inner if other != key)
            log.warning("checkpoint %s: %r is used, and not %s", path, key, others)
        loaded = loaded[key]
    keys = ", ".join(map(str, [*loaded][:5])) if isinstance(loaded, Mapping) else ""
    raise ValueError(
        f"checkpoint {path} must hold the state dict of one network, alone or under a key such as "
        f"'model', got {keys or type(loaded).__name__}"
    )


def _tensors(value: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, Tensor)}


def _has_weights(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are a network's: a loss, or a rate of decay, has no matrix."""
    return any(tensor.ndim > 1 for tensor in tensors.values())


def _holds(value: object, most_wrappers: int = MOST_WRAPPERS) -> bool:
    """Return whether a value is a state dict, or wraps one under a known key."""
    if not isinstance(value, Mapping) or not most_wrappers:
        return False
    return _has_weights(_tensors(value)) or any(
        key in value and _holds(value[key], most_wrappers - 1) for key in (*AVERAGES, *NETWORKS)
    )


@dataclass(frozen=True)
class Unprefixed:
    """Weights by the names that the network itself gives them.

    Args:
        weights: The weights.
        prefix: What was taken off their names.
        left_out: The names of weights that have another prefix.
    """

    weights: dict[str, Tensor]
    prefix: str = ""
    left_out: tuple[str, ...] = ()

    def note(self, path: Path) -> str:
        """Return what was done to the names of a file, in words; empty if nothing was."""
        if not self.prefix:
            return ""
        note = f"{path}: weights are read without the prefix {self.prefix!r}"
        if self.left_out:
            note += f" and without {len(self.left_out)} others, such as {self.left_out[0]}"
        return note


def without_prefix(weights: Mapping[str, Tensor], path: Path) -> Unprefixed:
    """Take off the prefix of a network's names, and leave out weights that are not the network's.

    A decoder beside an encoder stays: its names begin with `DECODER`.

    Args:
        weights: The weights by the names in a file.
        path: The file, for messages.

    Raises:
        ValueError: There are several networks; the message names their prefixes.
    """
    prefix = _prefix(weights, path)
    outer = prefix[: prefix.rstrip(".").rfind(".") + 1]  # of a decoder beside the encoder
    found, left_out = dict[str, Tensor](), []
    for name, value in weights.items():
        if name.startswith(prefix):
            found[name.removeprefix(prefix)] = value
        elif name.removeprefix(outer).startswith(DECODER):
            found[name.removeprefix(outer)] = value
        else:
            left_out.append(name)
    return Unprefixed(found, prefix, tuple(left_out))


def _prefix(weights: Mapping[str, Tensor], path: Path) -> str:
    found = [name.removesuffix(ANCHOR) for name in weights if name.endswith(ANCHOR)]
    if "" in found:
        return ""
    averaged = [prefix for prefix in found if set(prefix.split(".")) & set(AVERAGES)]
    if len(found) > 1 and len(averaged) != 1:
        raise ValueError(
            f"checkpoint {path} must hold the weights of one network, got the prefixes "
            f"{', '.join(found)}; save those of one in a file of its own"
        )
    if found:
        return (averaged or found)[0]
    prefix = ""
    while wrapper := next(
        (w for w in WRAPPERS if all(name.startswith(prefix + w) for name in weights)), None
    ):
        prefix += wrapper
    return prefix
