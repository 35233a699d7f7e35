"""Find the weights of a network in a file that someone else's code has written.

Such files wrap a state dict in others (model, state_dict, model_ema, teacher, …), with optimizers
and arguments beside it, and names have the prefixes of what wrapped the network (module.,
_orig_mod., backbone., encoder., …). What is unambiguous is unwrapped, and one line says so.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
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

MASK_TOKEN = "mask_token"
"""The name of the decoder's token, which encoders of SimMIM, BEiT and DINOv2 have too."""

DECODER = ("decoder_", MASK_TOKEN)
"""Prefixes of the names of the decoder's weights."""

ANCHOR = "patch_embed.proj.weight"
"""The end of a name that a network of patches has once; what comes before it is the prefix."""

WRAPPERS = ("module.",)
"""Prefixes, of DistributedDataParallel, that are taken off networks without patches; any other may
be the network's own."""

WRAPPED = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What torch.compile, FSDP and activation checkpointing add within the names of what they wrap."""


def tensors_of(loaded: object, path: Path) -> dict[str, Tensor]:
    """Return the state dict in what a file holds.

    Args:
        loaded: What `torch.load` has returned.
        path: The file, for messages.

    Raises:
        ValueError: There is none, or there are several of unknown purpose; the message names them.
    """
    left: dict[str, object] = {}
    taken: list[str] = []
    for _ in range(MOST_WRAPPERS):
        if not isinstance(loaded, Mapping):
            break
        inner = [key for key, value in loaded.items() if isinstance(key, str) and _holds(value)]
        known = next((key for key in (*AVERAGES, *NETWORKS) if key in inner), None)
        tensors = _tensors(loaded)
        is_found = known is None and _has_weights(tensors)
        if known is None and not is_found and len(inner) != 1:
            break
        key = "" if is_found else known or inner[0]
        at = "".join(f"{one}." for one in taken)
        left |= {f"{at}{name}": v for name, v in loaded.items() if is_found or name != key}
        if is_found:
            _name_others(left, tensors, ".".join(taken) or "the network", path)
            return tensors
        taken.append(key)
        loaded = loaded[key]
    keys = ", ".join(map(str, [*loaded][:5])) if isinstance(loaded, Mapping) else ""
    raise ValueError(
        f"checkpoint {path} must hold the state dict of one network, alone or under a key such as "
        f"'model', got {keys or type(loaded).__name__}"
    )


def _name_others(
    left: Mapping[str, object], tensors: Mapping[str, Tensor], taken: str, path: Path
) -> None:
    """Warn of all else in a file that may be a network, such as averages of the weights.

    Args:
        left: What is not taken, by name.
        tensors: What is.
        taken: The name of that.
        path: The file.
    """
    fewest = sum(value.ndim > 1 for value in tensors.values()) / 2
    others = [
        other
        for name, value in left.items()
        for other in ([name] if _holds(value) else _networks(value, name, max(fewest, 1), set()))
    ]
    if others:
        log.warning("checkpoint %s: %r is used, and not %s", path, taken, ", ".join(others[:5]))


def _networks(value: object, name: str, fewest: float, seen: set[int]) -> Iterator[str]:
    """Yield the names of dicts and lists within a value that have enough matrices for a network."""
    inner = value if isinstance(value, Mapping) else {}
    listed = value if isinstance(value, list | tuple) else list(inner.values())
    if sum(isinstance(one, Tensor) and one.ndim > 1 for one in listed) >= fewest:
        yield name
    elif id(value) not in seen and name.count(".") < MOST_WRAPPERS:
        seen.add(id(value))  # a dict can also hold itself
        for key, one in inner.items():
            if isinstance(key, str):  # by number, optimizers keep what belongs to one tensor
                yield from _networks(one, f"{name}.{key}", fewest, seen)


def _tensors(value: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, Tensor)}


def _has_weights(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are a network's: a loss, or a rate of decay, has no matrix."""
    return any(tensor.ndim > 1 for tensor in tensors.values())


def _holds(value: object, seen: frozenset[int] = frozenset()) -> bool:
    """Return whether a value is a state dict, or wraps one under a known key."""
    if not isinstance(value, Mapping) or id(value) in seen or len(seen) == MOST_WRAPPERS:
        return False
    seen |= {id(value)}
    return _has_weights(_tensors(value)) or any(
        key in value and _holds(value[key], seen) for key in (*AVERAGES, *NETWORKS)
    )


@dataclass(frozen=True)
class Unprefixed:
    """Weights by the names that the network itself gives them.

    Args:
        weights: The weights.
        prefix: What was taken off their names.
        left_out: The names of weights that have another prefix.
        is_renamed: Whether names were without what torch adds to those of wrapped modules.
    """

    weights: dict[str, Tensor]
    prefix: str = ""
    left_out: tuple[str, ...] = ()
    is_renamed: bool = False

    def note(self, path: Path) -> str:
        """Return what was done to the names of a file, in words; empty if nothing was."""
        if not self.prefix:
            wrapped = f"{path}: weights are read by the names that they have without wrappers"
            return wrapped if self.is_renamed else ""
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
    given, weights = weights, {WRAPPED.sub("", name): value for name, value in weights.items()}
    if len(weights) < len(given):  # two would be one
        weights = given
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
    return Unprefixed(found, prefix, tuple(left_out), is_renamed=given.keys() != weights.keys())


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
