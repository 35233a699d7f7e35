"""Reading weights of any origin, safely, and checking that they fit."""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor, nn

from .checkpoint import latest_checkpoint
from .model import MaskedAutoencoder
from .vit_mae import from_vit_mae, vit_mae_arguments

REFERENCE_HEADS = {768: 12, 1024: 16, 1280: 16}
"""Encoder width -> attention heads of the reference implementation's ViT-B, L and H; the only thing
about a checkpoint that its shapes do not tell."""
REFERENCE_DECODER_HEADS = 16


DECODER = ("decoder_", "mask_token")
"""How the names of the decoder's weights start."""


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a .pth file without executing anything in it.

    Raises:
        ValueError: the file is missing, damaged, or holds more than tensors.
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
    except pickle.UnpicklingError as error:  # its message advises to load the file all the same
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
    """Load a state dict whose names and shapes have to be the model's.

    Args:
        model: gets the weights.
        weights: by name.
        path: where they are from, for the message.
        may_miss: prefixes of the model's names that need not be among the weights.

    Raises:
        ValueError: a name or shape differs, or a number is not finite; the message says which.
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


# --- masked autoencoders


def load_mae_checkpoint(path: str | Path, **overrides: Any) -> MaskedAutoencoder:
    """A masked autoencoder with the weights of a checkpoint.

    Args:
        path: a .pth file in the layout of the reference implementation
            (https://github.com/facebookresearch/mae; ViT-B, L or H with decoder), a run's folder,
            one of its checkpoints, or a folder of transformers' ViTMAEForPreTraining.
        overrides: further arguments of `MaskedAutoencoder` (mask_ratio, target, …).

    Raises:
        ValueError: the checkpoint is missing, damaged, unsafe, or of another architecture.
    """
    path = Path(path)
    config = folder_config(path)
    if path.is_dir() and config.get("model_type") != "vit_mae":
        model, weights = model_of_run(path, overrides)
    else:
        if path.is_dir():
            arguments, weights = read_vit_mae(path, config)
        else:
            reference = read_weights(path)
            arguments, weights = _reference_arguments(reference, path), with_prefix(reference)
        try:
            model = MaskedAutoencoder(**{**arguments, **overrides})
        except ValueError as error:
            raise ValueError(f"checkpoint {path} is of another architecture: {error}") from error
    load_weights(model, weights, path)
    return model


def run_of(path: Path) -> Path:
    """The run of a run's folder or of one of its checkpoints."""
    return path.parent.parent if path.name.startswith("step_") else path


def checkpoint_of(path: Path) -> Path | None:
    """The checkpoint that is meant by a run's folder, or by the checkpoint's own."""
    return path if path.name.startswith("step_") else latest_checkpoint(path)


def model_of_run(
    path: Path, overrides: Mapping[str, Any]
) -> tuple[MaskedAutoencoder, dict[str, Tensor]]:
    """The model of a pretraining run, new, and the weights of a checkpoint.

    Raises:
        ValueError: the folder is of no pretraining run, or holds no checkpoint.
    """
    run, checkpoint = run_of(path), checkpoint_of(path)
    if checkpoint is None or not (run / "config.yaml").is_file():
        raise ValueError(f"checkpoint must be a run's folder with a checkpoint in it, got {path}")
    try:
        arguments = yaml.safe_load((run / "config.yaml").read_text())["model"]
        model = MaskedAutoencoder(**{**arguments, **overrides})
    except (TypeError, KeyError, yaml.YAMLError) as error:
        raise ValueError(f"checkpoint must be a pretraining run's folder, got {path}") from error
    return model, read_weights(checkpoint / "model.safetensors")


def _reference_arguments(weights: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    needed = ("pos_embed", "patch_embed.proj.weight", "decoder_embed.weight", "decoder_pred.weight")
    missing = [name for name in needed if name not in weights]
    if missing:
        raise ValueError(
            f"checkpoint {path} must be a masked autoencoder with its decoder, got one without "
            f"{', '.join(missing)}"
        )
    dimensions = [weights[name].ndim for name in needed]
    if dimensions != [3, 4, 2, 2]:
        raise ValueError(
            f"checkpoint {path} is of another architecture ({', '.join(needed)} have {dimensions} "
            "dimensions for [3, 4, 2, 2])"
        )
    embed_dim, in_chans, *patch_size = weights["patch_embed.proj.weight"].shape
    if embed_dim not in REFERENCE_HEADS:
        raise ValueError(
            f"checkpoint {path} must be a ViT-B, L or H (width {list(REFERENCE_HEADS)}), "
            f"got width {embed_dim}"
        )
    side = round((weights["pos_embed"].shape[1] - 1) ** 0.5)
    return {
        "encoder": "vit_base_patch16_224",
        "encoder_args": {
            "embed_dim": embed_dim,
            "depth": num_blocks(weights, "blocks"),
            "num_heads": REFERENCE_HEADS[embed_dim],
        },
        "image_size": (side * patch_size[0], side * patch_size[1]),
        "patch_size": tuple(patch_size),
        "in_chans": in_chans,
        "decoder_dim": weights["decoder_embed.weight"].shape[0],
        "decoder_depth": num_blocks(weights, "decoder_blocks"),
        "decoder_num_heads": REFERENCE_DECODER_HEADS,
    }


def num_blocks(weights: Mapping[str, Tensor], name: str) -> int:
    """How many blocks a state dict has under a name."""
    start = f"{name}."
    return len({key.removeprefix(start).split(".")[0] for key in weights if key.startswith(start)})


# --- layouts


def with_prefix(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reference implementation's and timm's names -> those of `MaskedAutoencoder`."""
    return {k if k.startswith(DECODER) else f"encoder.{k}": v for k, v in weights.items()}


def folder_config(path: Path) -> dict[str, Any]:
    """The config.json of a folder; empty if there is none."""
    try:
        config = json.loads((path / "config.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ValueError(f"checkpoint {path} has a damaged config.json ({error})") from error
    return config if isinstance(config, dict) else {}


def read_vit_mae(path: Path, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The arguments of `MaskedAutoencoder`, and its weights, of a folder of ViTMAE."""
    try:
        arguments = vit_mae_arguments(config)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ValueError(f"checkpoint {path} is of another architecture: {error}") from error
    files = [path / name for name in ("model.safetensors", "pytorch_model.bin")]
    file = next((file for file in files if file.is_file()), files[0])
    return arguments, from_vit_mae(read_weights(file))
