"""The classifier: a backbone with a head, built, saved as a folder, and opened again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import load_file, save_file
from timm.data import resolve_data_config
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

from mae_et.curriculum import Size, as_pair
from mae_et.errors import first_line
from mae_et.model import SizedModel, create_vit
from mae_et.runs import new_folder
from mae_et.weights import handed_on, read_pretrained, save_timm_folder

from ..config import ClassifierConfig, DataConfig
from .backbone import create_model
from .weights import load_encoder


def build_classifier(
    model: ClassifierConfig, class_names: Sequence[str], checkpoint: str
) -> SizedModel:
    """A classifier with the weights of an encoder, or with new ones for "none".

    The head is new, and so is the norm after average pooling, as in the reference implementation
    of MAE's fine-tuning. Positions are resampled to the image size.

    Raises:
        ValueError: the model can't be built, or the checkpoint is not its encoder.
    """
    arguments = dict(model.encoder_args)
    if model.patch_size is not None:
        arguments["patch_size"] = as_pair(model.patch_size)
    if model.global_pool is not None and _is_vit(model.encoder):
        arguments.setdefault("global_pool", model.global_pool)
    classifier = create_model(
        model.encoder,
        image_size=model.image_size,
        in_chans=model.in_chans,
        num_classes=len(class_names),
        drop_path=model.drop_path,
        model_args=arguments,
    )
    if checkpoint != "none":
        head = getattr(classifier.model, "head", None)
        if isinstance(classifier.model, VisionTransformer) and isinstance(head, nn.Linear):
            nn.init.trunc_normal_(head.weight, std=2e-5)  # as in the reference
        pretrained = read_pretrained(handed_on(Path(checkpoint)))
        load_encoder(classifier.model, pretrained, checkpoint, class_names)
    return classifier


def build_encoder(model: ClassifierConfig, checkpoint: str) -> nn.Module:
    """The encoder of a checkpoint, which maps images (N, C, H, W) to features (N, D).

    Features are pooled as `model.global_pool` says, after the norm that the checkpoint has.

    Raises:
        ValueError: the model can't be built, or the checkpoint is not its encoder.
    """
    pretrained = read_pretrained(handed_on(Path(checkpoint)))
    encoder: nn.Module = create_vit(
        model.encoder,
        image_size=model.image_size,
        patch_size=model.patch_size,
        in_chans=model.in_chans,
        num_classes=0,
        global_pool=model.global_pool or "token",
        # of a classifier that averages patches
        fc_norm="encoder.fc_norm.weight" in pretrained.weights,
        encoder_args=model.encoder_args,
    )
    load_encoder(encoder, pretrained, checkpoint)
    return encoder


def _is_vit(name: str) -> bool:
    """Whether a timm model is a VisionTransformer, which pools in more than one way."""
    if ":" in name or not timm.is_model(name):
        return False
    module: str = timm.model_entrypoint(name).__module__
    return module in ("timm.models.vision_transformer", "timm.models.deit")


def size_multiple(model: nn.Module, full_size: Size) -> Size:
    """What EfficientTrain's sizes are rounded to: 32 pixels (a total stride) as far as they fit.

    32 of 224 pixels; 4 of 28. VisionTransformers, and patches that do not divide 32: the patch.
    """
    patch_size = getattr(getattr(model, "patch_embed", None), "patch_size", 1)
    height, width = as_pair(patch_size)
    if isinstance(model, VisionTransformer) or 32 % height or 32 % width:
        return height, width
    return math.gcd(as_pair(full_size)[0], 32), math.gcd(as_pair(full_size)[1], 32)


def parameter_groups(
    model: nn.Module, weight_decay: float, *, layer_decay: float
) -> list[dict[str, Any]]:
    """timm's groups by layer, each with the scale of its learning rate and its weight decay."""
    unpenalised: set[str] = getattr(model, "no_weight_decay", set)()
    groups: list[dict[str, Any]] = param_groups_layer_decay(
        model, weight_decay, no_weight_decay_list=unpenalised, layer_decay=layer_decay
    )
    return groups


def save_classifier(
    classifier: nn.Module,
    folder: Path,
    model: ClassifierConfig,
    source: DataConfig,
    class_names: Sequence[str],
    scores: Mapping[str, float],
) -> None:
    """Write a classifier as a folder: model.safetensors, and config.json with its classes.

    ``timm.create_model("local-dir:FOLDER")`` opens it, unless the model is not timm's own.
    """
    preprocessing = {
        "input_size": [model.in_chans, *as_pair(model.image_size)],
        "mean": list(source.mean),
        "std": list(source.std),
        "crop_pct": source.eval_crop,
        "interpolation": "bicubic",
    }
    facts: dict[str, Any] = {"label_names": list(class_names), "metrics": dict(scores)}
    if ":" not in model.encoder:
        save_timm_folder(classifier, folder, model_args={}, pretrained_cfg=preprocessing, **facts)
        return
    config = {
        "architecture": model.encoder,
        "num_classes": len(class_names),
        "model_args": {**model.encoder_args, "img_size": model.image_size},
        "pretrained_cfg": preprocessing,
        **facts,
    }
    with new_folder(folder) as unfinished:
        tensors = {name: value.clone() for name, value in classifier.state_dict().items()}
        save_file(tensors, unfinished / "model.safetensors")
        (unfinished / "config.json").write_text(json.dumps(config, indent=2))


def saved_top1(folder: Path) -> float:
    """The accuracy with which a classifier has been saved; 0 if there is none."""
    file = folder / "config.json"
    return float(json.loads(file.read_text())["metrics"]["top1"]) if file.exists() else 0.0


def load_classifier(
    path: Path, encoder: str | None = None
) -> tuple[nn.Module, list[str], dict[str, Any]]:
    """The classifier of a run or a folder, the names of its classes, and timm's data config.

    Args:
        path: a fine-tuning run, or its `best` or `last`.
        encoder: module:callable that builds a classifier which is not timm's own. A folder does
            not decide which code is run.

    Raises:
        ValueError: there is no classifier, it is damaged, or it needs `encoder`.
    """
    folder = handed_on(path)
    try:
        config = json.loads((folder / "config.json").read_text())
        architecture, names = str(config["architecture"]), list(config.get("label_names", []))
        preprocessing = config["pretrained_cfg"]
        arguments = dict(config["model_args"])
        in_chans, _, _ = preprocessing["input_size"]
    except (OSError, KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(
            f"--checkpoint must be a fine-tuning run or a classifier's folder, got {path} "
            f"({type(error).__name__}: {error})"
        ) from error
    if not names or len(names) != config.get("num_classes"):
        raise ValueError(
            f"--checkpoint must be a classifier with the names of its classes, got {folder} with "
            f"{len(names)} names for {config.get('num_classes')} classes; an encoder has to be "
            "fine-tuned first"
        )
    if (":" in architecture) != (encoder is not None):
        raise ValueError(
            f"--encoder must be {architecture if ':' in architecture else 'left out'} for "
            f"{folder}, got {encoder!r}"
        )
    try:
        if encoder is None:
            model = timm.create_model(f"local-dir:{folder}", pretrained=True)
        else:
            size = arguments.pop("img_size")
            model = create_model(
                encoder,
                image_size=size if isinstance(size, int) else (size[0], size[1]),
                in_chans=in_chans,
                num_classes=len(names),
                model_args=arguments,
            ).model
            weights: dict[str, Tensor] = load_file(folder / "model.safetensors")
            model.load_state_dict(weights)
        preprocessing = resolve_data_config({}, pretrained_cfg=preprocessing)
    except Exception as error:  # damaged files raise nearly anything
        raise ValueError(f"--checkpoint {folder} can't be opened: {first_line(error)}") from error
    return model.eval(), names, preprocessing
