"""Reading weights of any origin, safely, and checking that they fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from ..model import MaskedAutoencoder
from ..runs import latest_checkpoint
from .files import folder_config, load_weights, num_blocks, read_weights, with_prefix
from .from_transformers import from_vit_mae, vit_mae_arguments

REFERENCE_HEADS = {768: 12, 1024: 16, 1280: 16}
"""Encoder width -> attention heads of the reference implementation's ViT-B, L and H; the only thing
about a checkpoint that its shapes do not tell."""


REFERENCE_DECODER_HEADS = 16


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


def read_vit_mae(path: Path, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The arguments of `MaskedAutoencoder`, and its weights, of a folder of ViTMAE."""
    try:
        arguments = vit_mae_arguments(config)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ValueError(f"checkpoint {path} is of another architecture: {error}") from error
    files = [path / name for name in ("model.safetensors", "pytorch_model.bin")]
    file = next((file for file in files if file.is_file()), files[0])
    return arguments, from_vit_mae(read_weights(file))
