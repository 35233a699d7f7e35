"""What a checkpoint tells of its network and of its images, by the names of settings.

So that fine-tuning and embedding need not be told again what the checkpoint knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..curriculum import as_pair, as_size
from ..runs import Run
from .files import num_blocks, read_weights
from .from_transformers import vit_mae_arguments
from .origin import Origin, RunCheckpoint, TimmFolder, TransformersFolder, WeightsFile, find_weights
from .unwrap import without_prefix

NETWORK = ("encoder", "encoder_args", "image_size", "patch_size", "in_chans")
"""Fields of the section `model` that a checkpoint may tell."""

WIDTHS = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge"}
"""Width of a VisionTransformer -> its name in timm. The heads that go with it are timm's."""

OWN = frozenset({"img_size", "patch_size", "in_chans", "num_classes", "fc_norm", "drop_path_rate"})
"""Arguments of timm's models that are settings by other names, or depend on the use."""


def network_of(path: str | Path) -> dict[str, Any]:
    """Return what a checkpoint tells, as settings: {"model.in_chans": 1, "data.mean": [0.3], …}.

    Args:
        path: A checkpoint; see `find_weights`.

    Returns:
        Settings by dotted name; those that the checkpoint does not tell are missing.

    Raises:
        ValueError: There are no weights at the path, or they are damaged.
    """
    origin = find_weights(path, prefer_result=True)
    known = {f"model.{name}": value for name, value in _model(origin).items()}
    return known | {f"data.{name}": value for name, value in origin.normalisation.items()}


def _model(origin: Origin) -> dict[str, Any]:
    match origin:
        case RunCheckpoint():
            section = Run(origin.checkpoint.run_folder).section("model")
            return {name: section[name] for name in NETWORK if name in section}
        case TimmFolder():
            return _of_timm(origin.config)
        case TransformersFolder():
            arguments = vit_mae_arguments(origin.config)
            return {name: arguments[name] for name in NETWORK}
        case WeightsFile():
            return _of_weights(without_prefix(read_weights(origin.path), origin.path).weights)
    return {}


def _of_timm(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a timm folder's config.json, of ours or of the Hub."""
    arguments, described = (
        part if isinstance(part := config.get(name), dict) else {}
        for name in ("model_args", "pretrained_cfg")
    )
    known: dict[str, Any] = {}
    if isinstance(config.get("architecture"), str):
        known["encoder"] = config["architecture"]
    channels, *size = described.get("input_size") or [None, None, None]
    values = {
        "image_size": arguments.get("img_size", size if all(size) else None),
        "patch_size": arguments.get("patch_size"),
        "in_chans": arguments.get("in_chans", channels),
        "global_pool": arguments.get("global_pool"),
    }
    for name in ("image_size", "patch_size"):
        if isinstance(values[name], list):
            values[name] = as_size(*values[name])
    rest = {key: value for key, value in arguments.items() if key not in {*OWN, "global_pool"}}
    known |= {name: value for name, value in values.items() if value is not None}
    return known | ({"encoder_args": rest} if rest else {})


def _of_weights(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return what the shapes of a VisionTransformer reveal; nothing of other networks."""
    kernel, table = weights.get("patch_embed.proj.weight"), weights.get("pos_embed")
    if kernel is None or kernel.ndim != 4 or kernel.shape[0] not in WIDTHS:
        return {}
    width, in_chans, *patch = kernel.shape
    known: dict[str, Any] = {
        "encoder": f"vit_{WIDTHS[width]}_patch{14 if width == 1280 else 16}_224",
        "encoder_args": {"depth": num_blocks(weights, "blocks")},
        "patch_size": as_size(*patch),
        "in_chans": in_chans,
    }
    if table is not None and table.ndim == 3:
        num_tokens = table.shape[1]
        side = round((num_tokens - (num_tokens**0.5 % 1 != 0)) ** 0.5)
        height, width = as_pair(as_size(*patch))
        known["image_size"] = as_size(side * height, side * width)
    return known
