"""The weights of a pretrained encoder, into a classifier."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from mae_et.curriculum import as_pair
from mae_et.pos_embed import resample_table
from mae_et.weights import load_weights, read_weights

log = logging.getLogger(__name__)


def load_encoder(classifier: VisionTransformer, checkpoint: str) -> None:
    """Load all but the head from RUN/encoder, from a run's folder, or from a reference .pth file.

    Raises:
        ValueError: the checkpoint is missing, damaged, unsafe, or of another architecture.
    """
    weights, grid, num_heads = read_encoder(Path(checkpoint))
    own_heads = classifier.blocks[0].attn.num_heads
    if num_heads not in (None, own_heads):  # the one thing that shapes do not tell
        raise ValueError(
            f"checkpoint {checkpoint} is of another architecture ({num_heads} attention heads for "
            f"{own_heads})"
        )
    own = classifier.state_dict()
    for name in [name for name in weights if name.startswith(("norm.", "head."))]:
        if name not in own or weights[name].shape != own[name].shape:
            del weights[name]
            if name == "head.weight":
                log.warning("the checkpoint's head has other classes; a new one takes its place")
    table = weights.get("pos_embed")
    if table is not None and table.shape[-1] == own["pos_embed"].shape[-1]:
        num_prefix = 0 if classifier.no_embed_class else classifier.num_prefix_tokens
        if grid is None:
            side = round((table.shape[1] - num_prefix) ** 0.5)
            grid = (side, side)
        if grid[0] * grid[1] == table.shape[1] - num_prefix:
            new_grid = classifier.patch_embed.grid_size
            weights["pos_embed"] = resample_table(table, grid, new_grid, num_prefix)
    load_weights(classifier, weights, checkpoint, may_miss=("head.", "fc_norm."))


def read_encoder(
    path: Path,
) -> tuple[dict[str, Tensor], tuple[int, int] | None, int | None]:
    """The weights of an encoder; its grid and its attention heads, if the checkpoint says them.

    Raises:
        ValueError: the checkpoint is missing, damaged or unsafe.
    """
    if (path / "encoder").is_dir():
        path = path / "encoder"
    if not path.is_dir():
        weights = read_weights(path)
        encoder = {k: v for k, v in weights.items() if not k.startswith(("decoder_", "mask_token"))}
        return encoder, None, None
    weights = read_weights(path / "model.safetensors")
    try:
        arguments = json.loads((path / "config.json").read_text())["model_args"]
        sides = zip(as_pair(arguments["img_size"]), as_pair(arguments["patch_size"]), strict=True)
        rows, columns = (image // patch for image, patch in sides)
    except (OSError, KeyError, json.JSONDecodeError):
        return weights, None, None
    return weights, (rows, columns), arguments.get("num_heads")
