"""Starting a model from weights of any origin: reference files, our runs, timm, transformers.

Sizes are compared before tensors, so that an error says which options the checkpoint needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from ..curriculum import Size, as_pair, as_size
from ..model import Grid, MaskedAutoencoder, resample_table
from .files import DECODER, folder_config, load_weights, num_blocks, read_weights, with_prefix
from .origin import (
    REFERENCE_DECODER_HEADS,
    REFERENCE_HEADS,
    checkpoint_of,
    model_of_run,
    read_vit_mae,
)


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Weights by the names of `MaskedAutoencoder`, and what their shapes do not tell.

    Args:
        weights: of encoder and decoder, or of the encoder alone.
        encoder: its timm name; None if unknown.
        grid: of the position tables; None for a square one.
        num_heads: of the encoder; None if unknown.
        decoder_num_heads: of the decoder; None if unknown.
    """

    weights: dict[str, Tensor]
    encoder: str | None = None
    grid: Grid | None = None
    num_heads: int | None = None
    decoder_num_heads: int | None = None

    @property
    def has_decoder(self) -> bool:
        """Whether there is anything of a decoder."""
        return any(name.startswith(DECODER) for name in self.weights)

    def resampled(self, name: str, grid: Grid, num_prefix_tokens: int) -> Tensor | None:
        """A position table at another grid; as it is where its own grid is unknown."""
        table = self.weights.get(name)
        if table is None or table.ndim != 3:
            return table
        num_patches = table.shape[1] - num_prefix_tokens
        side = round(max(num_patches, 0) ** 0.5)
        own = self.grid or (side, side)
        if own[0] * own[1] != num_patches:
            return table
        return resample_table(table, own, grid, num_prefix_tokens)


def read_pretrained(path: Path) -> Pretrained:
    """The weights of a checkpoint of any kind.

    Args:
        path: a .pth or .safetensors file by the names of the reference implementation (with or
            without decoder), a pretraining run, one of its checkpoints, a timm folder such as
            RUN/encoder, or a folder of transformers' ViTMAE.

    Raises:
        ValueError: the checkpoint is missing, damaged, unsafe, or of no such kind.
    """
    if not path.is_dir():
        weights = with_prefix(read_weights(path))
        if "decoder_embed.weight" not in weights:  # anybody's encoder
            return Pretrained(weights=weights)
        return Pretrained(
            weights=weights,
            num_heads=REFERENCE_HEADS.get(weights["decoder_embed.weight"].shape[-1]),
            decoder_num_heads=REFERENCE_DECODER_HEADS,
        )
    config = folder_config(path)
    if config.get("model_type") == "vit_mae":
        arguments, weights = read_vit_mae(path, config)
        return Pretrained(
            weights=weights,
            grid=_grid(arguments["image_size"], arguments["patch_size"]),
            num_heads=arguments["encoder_args"]["num_heads"],
            decoder_num_heads=arguments["decoder_num_heads"],
        )
    if "model_type" in config:
        raise ValueError(
            f"checkpoint {path} must be a ViTMAE if it is a folder of transformers, "
            f"got model_type {config['model_type']!r}"
        )
    if (path / "model.safetensors").is_file() and not path.name.startswith("step_"):
        return _read_timm_folder(path, config)
    if checkpoint_of(path) is None and (path / "encoder").is_dir():
        return read_pretrained(path / "encoder")
    return _as_pretrained(*model_of_run(path, {}))


def _read_timm_folder(path: Path, config: Mapping[str, Any]) -> Pretrained:
    weights = with_prefix(read_weights(path / "model.safetensors"))
    try:
        encoder, arguments = str(config["architecture"]), config["model_args"]
        grid = _grid(arguments["img_size"], arguments["patch_size"])
    except (KeyError, TypeError):
        return Pretrained(weights=weights)  # not of ours
    heads = arguments.get("num_heads") or _num_heads(encoder)
    return Pretrained(weights=weights, encoder=encoder, grid=grid, num_heads=heads)


def _num_heads(encoder: str) -> int | None:
    """The attention heads of a timm model; None if it is no VisionTransformer."""
    if not timm.is_model(encoder):
        return None
    with torch.device("meta"):
        model = timm.create_model(encoder)
    return model.blocks[0].attn.num_heads if isinstance(model, VisionTransformer) else None


def _grid(image_size: Size, patch_size: Size) -> Grid:
    (height, width), (rows, columns) = as_pair(image_size), as_pair(patch_size)
    return height // rows, width // columns


def _as_pretrained(model: MaskedAutoencoder, weights: dict[str, Tensor]) -> Pretrained:
    return Pretrained(
        weights=weights,
        grid=model.full_grid,
        num_heads=model.encoder.blocks[0].attn.num_heads,
        decoder_num_heads=model.decoder_blocks.num_heads if len(model.decoder_blocks) else None,
    )


def load_initial_weights(model: MaskedAutoencoder, path: str | Path) -> bool:
    """Start a model from the weights of a checkpoint; see `read_pretrained` for the kinds.

    Position tables of another grid are resampled to the model's full grid.

    Returns:
        Whether the checkpoint has a decoder; if not, the model's stays new.

    Raises:
        ValueError: the checkpoint is missing, damaged or unsafe, or the model is another; the
            message says which options the checkpoint needs.
    """
    pretrained = read_pretrained(Path(path))
    check_architecture(pretrained, _as_pretrained(model, model.state_dict()), path)
    predicted = pretrained.weights.get("decoder_pred.bias")
    if predicted is not None and len(predicted) != model.target.num_values:
        raise ValueError(
            f"checkpoint {path} predicts {len(predicted)} values of a patch, and model.target "
            f"{model.target_name} has {model.target.num_values}; give the target it was trained "
            "for, or its encoder alone, such as RUN/encoder"
        )
    prefix = 0 if model.encoder.no_embed_class else model.num_prefix_tokens
    tables = {
        "encoder.pos_embed": pretrained.resampled("encoder.pos_embed", model.full_grid, prefix),
        "decoder_pos_embed": pretrained.resampled(
            "decoder_pos_embed", model.full_grid, model.num_prefix_tokens
        ),
    }
    weights = pretrained.weights | {k: v for k, v in tables.items() if v is not None}
    may_miss = () if pretrained.has_decoder else DECODER
    load_weights(model, weights, path, may_miss=may_miss)
    return pretrained.has_decoder


def check_architecture(pretrained: Pretrained, own: Pretrained, path: str | Path) -> None:
    """Check that a checkpoint and a model are of the same sizes.

    Args:
        pretrained: of the checkpoint.
        own: of the model.
        path: of the checkpoint, for the message.

    Raises:
        ValueError: they are not; the message says which options the checkpoint needs.
    """
    theirs, ours = _architecture(pretrained), _architecture(own)
    changed = [name for name in theirs if name in ours and theirs[name] != ours[name]]
    if changed:
        found = ", ".join(
            f"{LABELS[name].format(theirs[name])} for {ours[name]}" for name in changed
        )
        options = " ".join(f"--model.{name} {_argument(theirs[name])}" for name in changed)
        if pretrained.encoder and any(name.startswith("encoder_args") for name in changed):
            options = f"--model.encoder {pretrained.encoder} {options}"
        if pretrained.grid and "patch_size" in changed:  # as many pixels would be other patches
            sides = zip(pretrained.grid, as_pair(theirs["patch_size"]), strict=True)
            options += f" --model.image_size {_argument(as_size(*(n * side for n, side in sides)))}"
        raise ValueError(f"checkpoint {path} is of another architecture ({found}); give {options}")


LABELS = {
    "patch_size": "patch size {}",
    "in_chans": "{} channels",
    "encoder_args.embed_dim": "width {}",
    "encoder_args.depth": "{} blocks",
    "encoder_args.num_heads": "{} attention heads",
    "decoder_dim": "decoder width {}",
    "decoder_depth": "{} decoder blocks",
    "decoder_num_heads": "{} decoder attention heads",
    "decoder": "{}-attention in the decoder",
}
"""Options of `model`, and how to speak of them."""


def _architecture(pretrained: Pretrained) -> dict[str, Any]:
    """The options that weights tell, by their names."""
    weights = pretrained.weights
    found: dict[str, Any] = {}
    kernel = weights.get("encoder.patch_embed.proj.weight")
    if kernel is not None and kernel.ndim == 4:
        found["patch_size"] = as_size(*kernel.shape[2:])
        found["in_chans"] = kernel.shape[1]
        found["encoder_args.embed_dim"] = kernel.shape[0]
    found["encoder_args.depth"] = num_blocks(weights, "encoder.blocks") or None
    found["encoder_args.num_heads"] = pretrained.num_heads
    if "decoder_embed.weight" in weights:
        found["decoder_dim"] = weights["decoder_embed.weight"].shape[0]
        found["decoder_depth"] = num_blocks(weights, "decoder_blocks")
        found["decoder_num_heads"] = pretrained.decoder_num_heads
        if found["decoder_depth"]:
            is_cross = "decoder_blocks.0.attn.in_proj_weight" in weights
            found["decoder"] = "cross" if is_cross else "self"
    return {name: value for name, value in found.items() if value is not None}


def _argument(value: Any) -> str:
    return str(value) if isinstance(value, int | str) else f"'{list(value)}'"
