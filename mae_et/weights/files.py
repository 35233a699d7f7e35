"""Read weights of any origin safely, and check that they fit a model."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..config import parse_json, read_text

MOST_BYTES = 2**26
"""The most bytes of a config.json, which may have the names of a hundred thousand classes."""

DECODER = ("decoder_", "mask_token")
"""Prefixes of the names of the decoder's weights."""


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors file, or of a .pth file without executing anything in it.

    Raises:
        ValueError: The file is missing, damaged, or holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"checkpoint must exist, got {path}")
    try:
        if path.suffix == ".safetensors":
            tensors: dict[str, Tensor] = load_file(path)
            return tensors
        with torch.serialization.safe_globals([argparse.Namespace]):  # reference runs hold one
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its message advises loading the file anyway
        raise ValueError(
            f"checkpoint {path} holds more than tensors, or is damaged; it was not executed"
        ) from error
    except Exception as error:  # unpickling damaged bytes raises nearly anything
        raise ValueError(f"checkpoint {path} is damaged: {error}") from error
    weights = loaded.get("model", loaded) if isinstance(loaded, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise ValueError(f"checkpoint {path} must hold a state dict, or one under 'model'")
    return weights


def load_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    path: str | Path,
    *,
    may_miss: tuple[str, ...] = (),
) -> None:
    """Load a state dict whose names and shapes must be those of the model.

    Args:
        model: The model that gets the weights.
        weights: The weights by name.
        path: Where the weights come from, for messages.
        may_miss: Prefixes of the model's names that need not be among the weights.

    Raises:
        ValueError: A name or shape differs, or a number is not finite; the message says which.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in weights and not name.startswith(may_miss)]
    unexpected = [name for name in weights if name not in own]
    reshaped = [
        f"{name} {tuple(weights[name].shape)} for {tuple(own[name].shape)}"
        for name in weights
        if name in own and weights[name].shape != own[name].shape
    ]
    found = [
        f"{what}: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
        for what, names in (("missing", missing), ("not known", unexpected), ("shape", reshaped))
        if names
    ]
    if found:
        raise ValueError(f"checkpoint {path} is of another architecture ({'; '.join(found)})")
    broken = [name for name, value in weights.items() if not value.isfinite().all()]
    if broken:
        raise ValueError(f"checkpoint {path} must hold finite numbers, got others in {broken[0]}")
    model.load_state_dict(weights, strict=False)


def num_blocks(weights: Mapping[str, Tensor], name: str) -> int:
    """Return the number of blocks that a state dict has under a name."""
    start = f"{name}."
    return len({key.removeprefix(start).split(".")[0] for key in weights if key.startswith(start)})


def with_prefix(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights of the reference implementation or of timm for `MaskedAutoencoder`."""
    return {k if k.startswith(DECODER) else f"encoder.{k}": v for k, v in weights.items()}


def folder_config(path: Path) -> dict[str, Any]:
    """Read the config.json of a folder; return an empty dict if there is none.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        config = parse_json(read_text(path / "config.json", most=MOST_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ValueError(f"checkpoint {path} has a damaged config.json ({error})") from error
    return config if isinstance(config, dict) else {}
