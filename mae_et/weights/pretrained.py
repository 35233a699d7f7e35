"""Weights with what is known about their model, and whether they fit another.

Sizes are compared before tensors, so that an error says which options the checkpoint needs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..curriculum import as_pair, as_size
from ..model import Grid, MaskedAutoencoder, MaskedModel, resample_table
from .files import num_blocks
from .unwrap import DECODER, MASK_TOKEN

log = logging.getLogger(__name__)

LABELS = {
    "patch_size": "patch size {}",
    "in_chans": "{} channels",
    "encoder_args.embed_dim": "width {}",
    "encoder_args.depth": "{} blocks",
    "encoder_args.num_heads": "{} attention heads",
    "encoder_args.reg_tokens": "{} register tokens",
    "decoder_dim": "decoder width {}",
    "decoder_depth": "{} decoder blocks",
    "decoder_num_heads": "{} decoder attention heads",
    "decoder": "{}-attention in the decoder",
}
"""Options of `model`, and how messages describe them."""

BEHAVIOUR = ("eps", "num_heads", "stride", "padding", "dilation")
"""Attributes of layers that change what a network computes, and that no tensor reveals."""

WITHOUT_EFFECT = ("Identity", "Dropout", "PatchDropout", "DropPath")
"""Layers that do nothing, or nothing in evaluation; they come and go with rates and pooling."""


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Weights by the names of `MaskedAutoencoder`, and what their shapes do not reveal.

    Args:
        weights: The weights of encoder and decoder, of the encoder alone, or of a classifier.
        method: The method of pretraining, as in `model.method`; None if there is no decoder, or it
            is unknown.
        encoder: The encoder's timm name; None if unknown.
        grid: The grid of the position tables; None for a square one.
        num_heads: Attention heads of the encoder; None if unknown.
        decoder_num_heads: Attention heads of the decoder; None if unknown.
        class_names: The names of a classifier's classes by number; None if unknown.
        by_file_names: The weights by the names of their file, where those have a prefix.
        note: What was unwrapped; empty if nothing was.
        encoder_args: The arguments of the encoder that a configuration states, for messages.
        layers: Its layers as `layers_of` describes them; None if unknown.
    """

    weights: dict[str, Tensor]
    method: str | None = None
    encoder: str | None = None
    grid: Grid | None = None
    num_heads: int | None = None
    decoder_num_heads: int | None = None
    class_names: list[str] | None = None
    by_file_names: dict[str, Tensor] | None = None
    note: str = ""
    encoder_args: Mapping[str, Any] = field(default_factory=dict)
    layers: Mapping[str, str] | None = None

    @property
    def has_decoder(self) -> bool:
        """Whether any weights belong to a decoder; many encoders have a mask token too."""
        return any(name.startswith(DECODER) and name != MASK_TOKEN for name in self.weights)

    def resampled(
        self, name: str, grid: Grid, num_prefix_tokens: int, per_patch: int = 1
    ) -> Tensor | None:
        """Return a position table resampled to another grid, or unchanged if its own is unknown.

        A table of unknown grid is of the other grid if it has as many rows, else of a square one;
        a warning says so where it could be of another.

        Args:
            name: The name of the table among the weights; without it, the result is None.
            grid: The other grid.
            num_prefix_tokens: Rows of the table before those of the patches.
            per_patch: Cells of the table on a side of a patch, of which the grids are.
        """
        table = self.weights.get(name)
        if table is None or table.ndim != 3:
            return table
        num_patches = table.shape[1] - num_prefix_tokens
        side = round(max(num_patches, 0) ** 0.5)
        grid = grid[0] * per_patch, grid[1] * per_patch
        known = self.grid and (self.grid[0] * per_patch, self.grid[1] * per_patch)
        same = grid[0] * grid[1] == num_patches
        own = known or (grid if same else (side, side))
        if own[0] * own[1] != num_patches:
            return table
        if self.grid is None and grid[0] != grid[1] and side**2 == num_patches:
            log.warning(
                "the checkpoint does not tell the grid of its %d positions: %d x %d is taken; a "
                "run's encoder, or a folder of timm, tells it",
                num_patches,
                *own,
            )
        return resample_table(table, own, grid, num_prefix_tokens)

    def check_layers(self, model: nn.Module, path: str | Path) -> None:
        """Check that a model's layers do the same as those that the weights were trained in.

        Args:
            model: The encoder or classifier.
            path: Where these weights come from, for messages.

        Raises:
            ValueError: Some do not; the message says which options the checkpoint needs.
        """
        theirs, ours = self.layers or {}, layers_of(model)
        changed = [name for name in theirs if theirs[name] != ours.get(name, theirs[name])]
        if not changed:
            return
        arguments = {"encoder": self.encoder} if self.encoder else {}
        arguments |= {f"encoder_args.{name}": value for name, value in self.encoder_args.items()}
        options = " ".join(f"--model.{name} {_argument(v)}" for name, v in arguments.items())
        raise ValueError(
            f"checkpoint {path} is of another architecture ({changed[0]} is {theirs[changed[0]]} "
            f"for {ours[changed[0]]}); give {options or 'the model.encoder that it was made with'}"
        )

    def check_fits(self, own: Pretrained, path: str | Path) -> None:
        """Check that these weights and those of a model have the same sizes.

        Args:
            own: The weights of the model.
            path: Where these weights come from, for messages.

        Raises:
            ValueError: The sizes differ; the message says which options the checkpoint needs.
        """
        theirs, ours = _architecture(self), _architecture(own)
        if self.num_heads is None and own.num_heads is not None:
            log.warning(
                "%s does not tell how many attention heads it has; %d are taken "
                "(model.encoder_args.num_heads)",
                path,
                own.num_heads,
            )
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


def describe(model: MaskedModel, weights: Mapping[str, Tensor]) -> Pretrained:
    """Return the weights of a masked model with what is known about it."""
    decoder_blocks: Any = getattr(model, "decoder_blocks", ())
    return Pretrained(
        method=model.method,
        weights=dict(weights),
        grid=model.full_grid if isinstance(model, MaskedAutoencoder) else None,
        num_heads=num_heads(model.encoder),
        encoder_args=model.encoder_args,
        layers=layers_of(model.encoder),
        decoder_num_heads=decoder_blocks.num_heads if len(decoder_blocks) else None,
    )


def num_heads(vit: nn.Module) -> int | None:
    """Return the attention heads of a VisionTransformer; None if its blocks are of another kind."""
    blocks = getattr(vit, "blocks", None)
    block = next(iter(blocks), None) if isinstance(blocks, nn.Sequential | nn.ModuleList) else None
    heads: int | None = getattr(getattr(block, "attn", None), "num_heads", None)
    return heads


def layers_of(model: nn.Module) -> dict[str, str]:
    """Describe what the layers of a model do, by their names: all that its tensors do not reveal.

    Args:
        model: The model; its sizes have no part in the description.
    """
    found = {}
    for name, layer in model.named_modules():
        kind = type(layer).__name__.removesuffix("Fp32")  # of the same numbers
        if name and kind not in WITHOUT_EFFECT:
            facts = [f"{fact}={getattr(layer, fact)}" for fact in BEHAVIOUR if hasattr(layer, fact)]
            facts += ["tanh"] if getattr(layer, "approximate", "none") == "tanh" else []
            found[name] = f"{kind}({', '.join(facts)})"
    return found


def _architecture(pretrained: Pretrained) -> dict[str, Any]:
    """Return the options that the weights reveal, by name."""
    weights = pretrained.weights
    found: dict[str, Any] = {}
    kernel = weights.get("encoder.patch_embed.proj.weight")
    if kernel is not None and kernel.ndim == 4:
        found["patch_size"] = as_size(*kernel.shape[2:])
        found["in_chans"] = kernel.shape[1]
        found["encoder_args.embed_dim"] = kernel.shape[0]
    if "encoder.cls_token" in weights:
        registers = weights.get("encoder.reg_token")
        found["encoder_args.reg_tokens"] = 0 if registers is None else registers.shape[1]
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
