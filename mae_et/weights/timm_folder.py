"""The hand-off: an encoder or a classifier as a folder that plain timm opens.

RUN/encoder/    of a pretraining run: model.safetensors and config.json
RUN/best/       of a fine-tuning run: the same, with class names in the configuration
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from timm.models import save_for_hf
from torch import nn

from ..curriculum import as_pair
from ..model import MaskedAutoencoder
from ..runs import new_folder


def handed_on(path: Path) -> Path:
    """A run's encoder, or its best (or else last) classifier; the path itself if it is no run."""
    folders = (path / name for name in ("encoder", "best", "last"))
    return next((folder for folder in folders if folder.is_dir()), path)


def export_encoder(
    model: MaskedAutoencoder, folder: str | Path, *, mean: Any = None, std: Any = None
) -> None:
    """Write the encoder as a folder that ``timm.create_model("local-dir:FOLDER")`` opens.

    Args:
        model: its encoder is written.
        folder: replaced if it exists.
        mean: of the normalisation, per channel; noted in the config.
        std: likewise.
    """
    encoder = model.encoder
    arguments = {
        **model.encoder_args,
        "img_size": list(as_pair(model.full_size)),
        "patch_size": list(model.patch_size),
        "in_chans": model.in_chans,
        "num_classes": 0,
        "fc_norm": False,
    }
    config = {
        "input_size": [model.in_chans, *as_pair(model.full_size)],
        "interpolation": "bicubic",
        **({"mean": list(mean)} if mean is not None else {}),
        **({"std": list(std)} if std is not None else {}),
    }
    save_timm_folder(encoder, folder, model_args=arguments, pretrained_cfg=config)


def save_timm_folder(
    model: nn.Module,
    folder: str | Path,
    *,
    model_args: Mapping[str, Any],
    pretrained_cfg: Mapping[str, Any],
    **config: Any,
) -> None:
    """Write a timm model as a folder, beside its place and renamed."""
    with new_folder(Path(folder)) as unfinished:
        save_for_hf(
            model,
            str(unfinished),
            model_config={"pretrained_cfg": {"tag": "mae_et", **pretrained_cfg}, **config},
            model_args=dict(model_args),
            safe_serialization=True,
        )


def open_timm_folder(folder: Path) -> nn.Module:
    """The model of a folder that `save_timm_folder` has written, in evaluation mode.

    Raises:
        ValueError: the folder is damaged, or holds a model that is not timm's.
    """
    try:
        model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except Exception as error:  # damaged files raise nearly anything
        raise ValueError(f"checkpoint {folder} can't be opened by timm: {error}") from error
    return model.eval()
