"""Read weights of any origin safely, and check that they fit a model."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..config import parse_json, read_text
from ..errors import first_line
from .unwrap import DECODER, tensors_of

MOST_BYTES = 2**26
"""The most bytes of a config.json, which may have the names of a hundred thousand classes."""

NUMPY_SCALAR = np.float64(0).__reduce__()[0]
"""The function that makes a NumPy number of its type and bytes, wherever NumPy keeps it."""

SAFE_TYPES: list[Any] = [
    argparse.Namespace,  # the arguments of many training scripts
    *((PurePosixPath, f"pathlib{part}.PosixPath") for part in ("", "._local")),
    *((PureWindowsPath, f"pathlib{part}.WindowsPath") for part in ("", "._local")),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "?")),
    *((NUMPY_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
"""Harmless types that checkpoints hold beside tensors, and that torch would refuse."""

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""The types of numbers that are weights as they are; others, such as int8, need a scale."""

PLAIN = (*FLOATS, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)

OTHER_FILES = {
    b"version https://git-lfs": "a pointer of Git LFS; `git lfs pull` gets the file",
    b"<": "a page of HTML or XML, perhaps an error of the server",
    b"{": "JSON",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}
"""First bytes of files that people take for checkpoints, and what they are."""


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors file, or of a .pth file without executing anything in it.

    Raises:
        ValueError: The file is missing, damaged, or holds objects that could execute code.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"checkpoint must exist, got {path}")
    try:
        if path.suffix == ".safetensors":
            loaded = load_file(path)
        else:
            with torch.serialization.safe_globals(SAFE_TYPES), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of kinds of tensors that are refused below
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling damaged bytes raises nearly anything
        raise ValueError(_why_unread(path, error)) from error
    is_flat = path.suffix == ".safetensors"
    tensors: dict[str, Tensor] = loaded if is_flat else tensors_of(loaded, path)
    for name, value in tensors.items():
        _check_plain(name, value, path)
    return tensors


def _check_plain(name: str, value: Tensor, path: Path) -> None:
    """Check that a tensor has its numbers as they are: not sparse, quantized or left out."""
    if value.is_meta or value.is_nested:
        kind = "meta" if value.is_meta else "nested"
    elif value.layout == torch.strided and (value.dtype in PLAIN or value.is_complex()):
        return
    else:
        kind = str(value.dtype if value.layout == torch.strided else value.layout)
    raise ValueError(
        f"checkpoint {path} must hold plain tensors, got a tensor of {kind} as {name}; save it as "
        "dense float32"
    )


def _why_unread(path: Path, error: Exception) -> str:
    """Return one line about a file that could not be read."""
    with path.open("rb") as file:
        head = file.read(32).lstrip()
    for start, kind in OTHER_FILES.items():
        if head.startswith(start):
            return f"checkpoint {path} is damaged: it is {kind}"
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found:
        return (
            f"checkpoint {path} holds more than tensors, and was not executed: an object of "
            f"{found[1]}; save its state dict alone, with torch.save(model.state_dict(), …)"
        )
    # Their messages advise to load the file anyway.
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
        return f"checkpoint {path} holds more than tensors, or is damaged; it was not executed"
    return f"checkpoint {path} is damaged: {first_line(error)}"


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
        ValueError: A name or shape differs, or a number is not finite or is no weight; the message
            says which.
    """
    own = model.state_dict()
    check_shapes(own, weights, path, may_miss=may_miss)
    check_numbers(own, weights, path)
    model.load_state_dict(weights, strict=False)


def check_shapes(
    own: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    path: str | Path,
    *,
    may_miss: tuple[str, ...] = (),
) -> None:
    """Check that the names and shapes of weights are those of a model.

    Args:
        own: The state dict of the model, on any device.
        weights: See `load_weights`.
        path: See `load_weights`.
        may_miss: See `load_weights`.

    Raises:
        ValueError: A name or shape differs; the message says which.
    """
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


def check_numbers(
    own: Mapping[str, Tensor], weights: Mapping[str, Tensor], path: str | Path
) -> None:
    """Check that weights are finite, and real numbers where a model has such.

    Args:
        own: The state dict of the model; where it lacks a name, real numbers and whole ones pass.
        weights: The weights by name.
        path: Where they come from, for messages.

    Raises:
        ValueError: They are not; the message says which.
    """
    for name, value in weights.items():
        like = own.get(name, value)
        allowed = FLOATS if like.is_floating_point() else PLAIN
        if value.dtype not in allowed and value.dtype != like.dtype:
            raise ValueError(
                f"checkpoint {path} must hold weights in float16, bfloat16, float32 or float64, "
                f"got {str(value.dtype).removeprefix('torch.')} as {name}"
            )
        if not value.isfinite().all():
            raise ValueError(f"checkpoint {path} must hold finite numbers, got others in {name}")


def num_blocks(weights: Mapping[str, Tensor], name: str) -> int:
    """Return the number of blocks that a state dict has under a name."""
    start = f"{name}."
    return len({key.removeprefix(start).split(".")[0] for key in weights if key.startswith(start)})


def with_prefix(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights of the reference implementation or of timm for `MaskedAutoencoder`."""
    return {k if k.startswith(DECODER) else f"encoder.{k}": v for k, v in weights.items()}


def check_model_type(config: Mapping[str, Any], path: str | Path) -> None:
    """Check that a config.json of transformers is that of a ViTMAE.

    Args:
        config: Its contents.
        path: The checkpoint, for messages.

    Raises:
        ValueError: It is that of another model.
    """
    if config.get("model_type", "vit_mae") != "vit_mae":
        raise ValueError(
            f"checkpoint {path} must be a ViTMAE if it is a folder of transformers, got model_type "
            f"{config['model_type']!r}; give the run, or its folder of timm"
        )


def folder_config(path: Path, name: str = "config.json") -> dict[str, Any]:
    """Read the config.json of a folder; return an empty dict if there is none.

    Args:
        path: The folder.
        name: The name of the file, if it is another one.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        config = parse_json(read_text(path / name, most=MOST_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ValueError(f"checkpoint {path} has a damaged {name} ({error})") from error
    return config if isinstance(config, dict) else {}
