"""Write an encoder or a classifier as a folder that plain timm opens.

It holds model.safetensors and config.json; a classifier's config.json also has its class names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import save_for_hf
from torch import nn

from ..curriculum import as_pair
from ..errors import check_depths, first_line
from ..model import FROM_ELSEWHERE, MaskedAutoencoder
from ..runs import new_folder
from .files import check_shapes, folder_config, load_weights, read_weights

OF_SIZES = ("img_size", "patch_size", "in_chans", "num_classes", "fc_norm", "global_pool")
"""Arguments of timm that options of their own set."""


def export_encoder(
    model: MaskedAutoencoder, folder: str | Path, *, mean: Any = None, std: Any = None
) -> None:
    """Write the encoder as a folder that ``timm.create_model("local-dir:FOLDER")`` opens.

    Args:
        model: The model whose encoder is written.
        folder: The folder, which is replaced if it exists.
        mean: Mean of the normalisation per channel, written to the config; None to leave it out.
        std: Its standard deviation per channel, likewise.

    Raises:
        RunStoppedError: The folder cannot be written.
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
        "crop_pct": 0.875,  # as probes and fine-tuning crop, which take it from data.eval_crop
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
    """Write a timm model as a folder: complete under a temporary name, then renamed into place.

    Args:
        model: The model.
        folder: The folder, which is replaced if it exists.
        model_args: Arguments with which timm builds the model.
        pretrained_cfg: timm's description of the model's images.
        config: Further fields of config.json.

    Raises:
        RunStoppedError: The folder cannot be written.
    """
    with new_folder(Path(folder)) as unfinished:
        save_for_hf(
            model,
            str(unfinished),
            model_config={"pretrained_cfg": {"tag": "mae_et", **pretrained_cfg}, **config},
            model_args=dict(model_args),
            safe_serialization=True,
        )


def open_timm_folder(folder: Path) -> nn.Module:
    """Open the model of a folder that `save_timm_folder` has written, in evaluation mode.

    timm builds the model. It would also load the weights, but makes up those that do not fit, and
    takes whole numbers and NaN for weights.

    Raises:
        ValueError: The folder is damaged, or holds a model that is not timm's.
    """
    weights = read_weights(weights_file(folder))
    arguments = folder_config(folder).get("model_args") or {}
    named = FROM_ELSEWHERE & arguments.keys() if isinstance(arguments, dict) else {"a list"}
    if named:
        raise ValueError(f"checkpoint {folder} can't be opened: its model_args have {named}")
    check_depths("model_args", arguments)
    for device in ("meta", "cpu"):  # first without memory, of which it might need any amount
        try:
            with torch.device(device):
                model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=False)
        except Exception as error:  # damaged files raise nearly anything
            raise ValueError(
                f"checkpoint {folder} can't be opened by timm: {first_line(error)}"
            ) from error
        check_shapes(model.state_dict(), weights, folder)
    load_weights(model, weights, folder)
    return model.eval()


def weights_file(folder: Path) -> Path:
    """Return the file with the weights of a folder of timm or transformers, if it has one."""
    files = [folder / name for name in ("model.safetensors", "pytorch_model.bin")]
    return next((file for file in files if file.is_file()), files[0])


def build_timm(name: str, arguments: Mapping[str, Any]) -> nn.Module | None:
    """Build a timm model on the meta device; None if there is no such model.

    Args:
        name: Its name.
        arguments: Its arguments, which anybody may have written.
    """
    try:
        check_depths("model_args", arguments)
        kept = {key: value for key, value in arguments.items() if key not in FROM_ELSEWHERE}
        with torch.device("meta"):
            return timm.create_model(name, **kept) if timm.is_model(name) else None
    except Exception:  # arguments raise nearly anything
        return None
