"""Write an encoder or a classifier as a folder that plain timm opens.

It holds model.safetensors and config.json; a classifier's config.json also has its class names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from timm.models import PretrainedCfg, save_for_hf
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ..curriculum import Size, as_pair
from ..errors import check, check_depths, first_line
from ..model import FROM_ELSEWHERE, Grid, MaskedModel
from ..runs import new_folder
from .by_name import WEIGHTS
from .files import check_numbers, check_shapes, load_weights
from .pretrained import layers_of, num_heads

OF_SIZES = ("img_size", "patch_size", "in_chans", "num_classes", "fc_norm", "global_pool")
"""Arguments of timm that options of their own set."""

ELSEWHERE = frozenset({"url", "file", "hf_hub_id", "hf_hub_filename", "source", "custom_load"})
"""What a config.json may say about where weights are; those beside it are the ones that count."""

CLAIMS = ("license", "description", "origin_url", "paper_name", "paper_ids", "notes")
"""What timm says about the weights that it lists for a model, which are not those of a run."""


def export_encoder(
    model: MaskedModel, folder: str | Path, *, mean: Any = None, std: Any = None
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
    config = {
        "input_size": [model.in_chans, *as_pair(model.full_size)],
        "interpolation": "bicubic",
        "crop_pct": 0.875,  # as probes and fine-tuning crop, which take it from data.eval_crop
        **({"mean": list(mean)} if mean is not None else {}),
        **({"std": list(std)} if std is not None else {}),
    }
    arguments = model.timm_arguments()
    if ":" not in model.encoder_name:
        save_timm_folder(model.encoder, folder, model_args=arguments, pretrained_cfg=config)
        return
    own = {"architecture": model.encoder_name, "num_classes": 0, "model_args": arguments}
    save_own_folder(model.encoder, folder, {**own, "pretrained_cfg": config})


def save_own_folder(network: nn.Module, folder: str | Path, config: Mapping[str, Any]) -> None:
    """Write a network that is not timm's own as a folder, which only this project opens.

    Args:
        network: The network.
        folder: The folder, which is replaced if it exists.
        config: The contents of config.json, whose `architecture` is module:callable.

    Raises:
        RunStoppedError: The folder cannot be written.
    """
    with new_folder(Path(folder)) as unfinished:
        tensors = {name: value.clone() for name, value in network.state_dict().items()}
        save_file(tensors, unfinished / WEIGHTS)
        (unfinished / "config.json").write_text(json.dumps(config, indent=2))


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
        file = unfinished / "config.json"
        written = json.loads(file.read_text())
        for claim in set(CLAIMS) - pretrained_cfg.keys():
            written["pretrained_cfg"].pop(claim, None)
        file.write_text(json.dumps(written, indent=2))


def build_timm_model(
    config: Mapping[str, Any], weights: dict[str, Tensor], path: str | Path
) -> nn.Module:
    """Build a model of timm's with its weights, in evaluation mode.

    Weights by timm's names are checked and put in here: timm would make up those that do not fit,
    and take whole numbers and NaN for weights. Those of older versions, or of other programs, timm
    turns into its own where it knows how to.

    Args:
        config: The contents of its config.json.
        weights: The weights, by the names in their file.
        path: Where they come from, for messages.

    Raises:
        ValueError: The folder is damaged, or holds a model that is not timm's.
    """
    try:
        with torch.device("meta"):  # first without memory, of which it might need any amount
            own = _create(config).state_dict()
    except Exception as error:  # damaged files raise nearly anything
        raise ValueError(
            f"checkpoint {path} can't be opened by timm: {first_line(error)}"
        ) from error
    is_exact = own.keys() == weights.keys()
    if is_exact:
        reshaped = {name for name, value in weights.items() if value.shape != own[name].shape}
        is_exact = reshaped != {"pos_embed"}  # a table that timm resamples
    if is_exact:
        check_shapes(own, weights, path)
    check_numbers(own, weights, path)
    try:
        with torch.random.fork_rng(devices=[]):  # new weights draw numbers, but are replaced
            model = _create(config, weights=None if is_exact else weights)
    except Exception as error:
        check_shapes(own, weights, path)  # which says more
        raise ValueError(
            f"checkpoint {path} can't be opened by timm: {first_line(error)}"
        ) from error
    if is_exact:
        load_weights(model, weights, path)
    return model.eval()


def weights_file(folder: Path) -> Path:
    """Return the file with the weights of a folder of timm or transformers, if it has one."""
    files = [folder / name for name in ("model.safetensors", "pytorch_model.bin")]
    return next((file for file in files if file.is_file()), files[0])


def as_timm_names_them(
    weights: dict[str, Tensor], config: Mapping[str, Any]
) -> tuple[dict[str, Tensor], nn.Module | None]:
    """Return weights by the names of timm's model, and the model without memory.

    Args:
        weights: The weights, by the names in their file.
        config: The contents of the config.json beside it.

    Returns:
        The weights, unchanged if timm has no use for them; and the model, None if this version of
        timm does not build it.
    """
    try:
        with torch.device("meta"):
            model = _create(config)
    except Exception:  # none of timm's, or damaged; who needs a model will say so
        return weights, None
    if model.state_dict().keys() == weights.keys():
        return weights, model
    try:
        return build_timm_model(config, weights, "").state_dict(), model
    except ValueError:
        return weights, model


def facts_of_network(config: Mapping[str, Any], model: nn.Module | None) -> dict[str, Any]:
    """Return what the shapes of weights do not reveal, as fields of `Pretrained`.

    Args:
        config: The contents of a config.json.
        model: The model that it describes; None if this version of timm does not build it.
    """
    arguments = config.get("model_args")
    arguments = arguments if isinstance(arguments, dict) else {}
    facts: dict[str, Any] = {}
    with suppress(KeyError, TypeError, ValueError, ArithmeticError):  # it may be no one of ours
        facts["grid"] = grid_of(arguments["img_size"], arguments["patch_size"])
    if model is None:
        return facts
    if isinstance(model, VisionTransformer):
        facts |= {"grid": model.patch_embed.grid_size, "num_heads": num_heads(model)}
    rest = {name: value for name, value in arguments.items() if name not in OF_SIZES}
    return facts | {
        "encoder": str(config["architecture"]),
        "encoder_args": rest,
        "layers": layers_of(model),
    }


def grid_of(image_size: Size, patch_size: Size) -> Grid:
    """Return the number of patches below and beside each other."""
    (height, width), (rows, columns) = as_pair(image_size), as_pair(patch_size)
    return height // rows, width // columns


def _create(config: Mapping[str, Any], *, weights: dict[str, Tensor] | None = None) -> nn.Module:
    """Create the model that a config.json describes, with new weights or the given ones."""
    architecture, arguments = str(config["architecture"]), dict(config.get("model_args") or {})
    check(timm.is_model(architecture), "architecture", architecture, "the name of a timm model")
    named = FROM_ELSEWHERE & arguments.keys()  # a folder does not say what else is opened
    check(not named, "model_args", sorted(named), "without places of weights")
    check_depths("model_args", arguments)
    known = {field.name for field in fields(PretrainedCfg)} - ELSEWHERE
    described = {k: v for k, v in (config.get("pretrained_cfg") or {}).items() if k in known}
    classes = {name: config[name] for name in ("num_classes",) if name in config}
    given = {} if weights is None else {"state_dict": dict(weights)}
    model: nn.Module = timm.create_model(
        architecture,
        pretrained=weights is not None,
        pretrained_cfg={**described, **classes, **given},
        **{**classes, **arguments},
    )
    return model
