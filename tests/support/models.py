"""Small models."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import timm
import torch
from safetensors.torch import save_file
from torch import nn

from mae_et import MaskedAutoencoder


class BuildMAE(Protocol):
    """What the fixture `tiny_mae` gives: a model with some of its arguments changed."""

    def __call__(self, encoder: str = ..., **changes: Any) -> MaskedAutoencoder: ...


SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2}


PROCESSOR: dict[str, Any] = {"size": 32, "mean": (0.5,) * 3, "std": (0.2,) * 3, "crop_pct": 1.0}


def randomized(model: Any, seed: int = 0) -> Any:
    """Every parameter drawn anew: biases, norms and position tables too."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
    model.load_state_dict(model.state_dict())  # positions follow their tables
    return model.eval()


def make_classifier(name: str = "vit_base_patch16_224", **arguments: Any) -> Any:
    options = {"img_size": 32, "patch_size": 8, "num_classes": 7, **SMALL, **arguments}
    return randomized(timm.create_model(name, **options))


def save(weights: object, path: Path, kind: str) -> bytes:
    if kind == "safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=kind == "zip")
    return path.read_bytes()
