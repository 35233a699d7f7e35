"""Weights with what is known about their model, and whether they fit another.

Sizes are compared before tensors, so that an error says which options the checkpoint needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..curriculum import as_pair, as_size
from ..model import Grid, MaskedAutoencoder, resample_table
from .files import num_blocks
from .unwrap import DECODER

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
"""Options of `model`, and how messages describe them."""


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Weights by the names of `MaskedAutoencoder`, and what their shapes do not reveal.

    Args:
        weights: The weights of encoder and decoder, of the encoder alone, or of a classifier.
        encoder: The encoder's timm name; None if unknown.
        grid: The grid of the position tables; None for a square one.
        num_heads: Attention heads of the encoder; None if unknown.
        decoder_num_heads: Attention heads of the decoder; None if unknown.
        class_names: The names of a classifier's classes by number; None if unknown.
        by_file_names: The weights by the names of their file, where those have a prefix.
        note: What was unwrapped; empty if nothing was.
    """

    weights: dict[str, Tensor]
    encoder: str | None = None
    grid: Grid | None = None
    num_heads: int | None = None
    decoder_num_heads: int | None = None
    class_names: list[str] | None = None
    by_file_names: dict[str, Tensor] | None = None
    note: str = ""

    @property
    def has_decoder(self) -> bool:
        """Whether any weights belong to a decoder."""
        return any(name.startswith(DECODER) for name in self.weights)

    def resampled(self, name: str, grid: Grid, num_prefix_tokens: int) -> Tensor | None:
        """Return a position table resampled to another grid, or unchanged if its own is unknown.

        Args:
            name: The name of the table among the weights; without it, the result is None.
            grid: The other grid.
            num_prefix_tokens: Rows of the table before those of the patches.
        """
        table = self.weights.get(name)
        if table is None or table.ndim != 3:
            return table
        num_patches = table.shape[1] - num_prefix_tokens
        side = round(max(num_patches, 0) ** 0.5)
        own = self.grid or (side, side)
        if own[0] * own[1] != num_patches:
            return table
        return resample_table(table, own, grid, num_prefix_tokens)

    def check_fits(self, own: Pretrained, path: str | Path) -> None:
        """Check that these weights and those of a model have the same sizes.

        Args:
            own: The weights of the model.
            path: Where these weights come from, for messages.

        Raises:
            ValueError: The sizes differ; the message says which options the checkpoint needs.
        """
        theirs, ours = _architecture(self), _architecture(own)
        changed = [name for name in theirs if name in ours and theirs[name] != ours[name]]
        if not changed:
            return
        found = ", ".join(
            f"{LABELS[name].format(theirs[name])} for {ours[name]}" for name in changed
        )
        options = " ".join(f"--model.{name} {_argument(theirs[name])}" for name in changed)
        if self.encoder and any(name.startswith("encoder_args") for name in changed):
            options = f"--model.encoder {self.encoder} {options}"
        if self.grid and "patch_size" in changed:  # the same pixels would make different patches
            sides = zip(self.grid, as_pair(theirs["patch_size"]), strict=True)
            options += f" --model.image_size {_argument(as_size(*(n * side for n, side in sides)))}"
        raise ValueError(f"checkpoint {path} is of another architecture ({found}); give {options}")


def describe(model: MaskedAutoencoder, weights: Mapping[str, Tensor]) -> Pretrained:
    """Return the weights of a masked autoencoder with what is known about it."""
    return Pretrained(
        weights=dict(weights),
        grid=model.full_grid,
        num_heads=model.encoder.blocks[0].attn.num_heads,
        decoder_num_heads=model.decoder_blocks.num_heads if len(model.decoder_blocks) else None,
    )


def _architecture(pretrained: Pretrained) -> dict[str, Any]:
    """Return the options that the weights reveal, by name."""
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
