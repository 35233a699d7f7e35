"""Save a classifier as a folder, and open it again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from timm.data import create_transform, resolve_data_config
from torch import nn

from mae_et.curriculum import as_pair
from mae_et.errors import check, check_depths, first_line
from mae_et.weights import (
    Named,
    TimmFolder,
    find_weights,
    folder_config,
    load_weights,
    read_weights,
    save_own_folder,
    save_timm_folder,
)

from ..config import ClassifierConfig, DataConfig
from .backbone import create_model

MOST_VALUES = 2**26
"""The most values of an image that a classifier takes."""


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

    Args:
        classifier: The network.
        folder: The folder, which is replaced if it exists.
        model: The section `model` of the configuration.
        source: The section `data` of the configuration.
        class_names: The names of the classes by number.
        scores: Its scores, which are written to the config.

    Raises:
        RunStoppedError: The folder cannot be written.
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
    save_own_folder(classifier, folder, config)


def saved_top1(folder: Path) -> float:
    """Return the accuracy that a classifier was saved with; 0 for none, or a damaged one."""
    try:
        return float(folder_config(folder)["metrics"]["top1"])
    except (ValueError, KeyError, TypeError):
        return 0.0


def load_classifier(
    path: str | Path, encoder: str | None = None
) -> tuple[nn.Module, list[str], dict[str, Any]]:
    """Open the classifier of a run or a folder.

    Args:
        path: A fine-tuning run, its `best` or `last`, or a name; see `find_weights`.
        encoder: module:callable that builds a classifier which is not timm's own. A folder does
            not decide which code is run.

    Returns:
        The network in evaluation mode, the names of its classes, and timm's data config.

    Raises:
        ValueError: There is no classifier, it is damaged, or it needs `encoder`.
    """
    origin = _find_classifier(path)
    folder, config, names = origin.path, origin.config, list(origin.class_names or ())
    architecture = str(config["architecture"])
    is_own = ":" in architecture
    if is_own != (encoder is not None):
        allowed = architecture if is_own else "left out"
        raise ValueError(f"--encoder must be {allowed} for {origin.shown}, got {encoder!r}")
    try:
        if encoder is None:
            model = origin.build()
        else:
            model = _build_own(encoder, config, len(names))
            load_weights(model, read_weights(folder / "model.safetensors"), folder)
        preprocessing = resolve_data_config({}, pretrained_cfg=config["pretrained_cfg"])
        _try(model.eval(), preprocessing, len(names))
    except Exception as error:  # damaged files raise nearly anything
        raise ValueError(
            f"--checkpoint {origin.shown} can't be opened: {first_line(error)}"
        ) from error
    return model, names, preprocessing


def _try(model: nn.Module, preprocessing: Mapping[str, Any], num_classes: int) -> None:
    """Check that images can be prepared, and that a black one has an output for each class.

    Raises:
        ValueError: It has others, or the image would be larger than any. What cannot be prepared
            raises nearly anything.
    """
    input_size = preprocessing["input_size"]
    ok = all(type(side) is int and side > 0 for side in input_size)
    ok = ok and math.prod(input_size) <= MOST_VALUES
    check(ok, "input_size", input_size, f"numbers above 0, of up to {MOST_VALUES:,} values")
    create_transform(**preprocessing)
    for name, least in {"mean": -math.inf, "std": 0}.items():
        values = preprocessing[name]
        ok = len(values) == input_size[0] and all(least < float(n) < math.inf for n in values)
        check(ok, name, values, f"a finite number above {least} for each channel")
    with torch.inference_mode():
        logits = model(torch.zeros(1, *input_size))
    check(
        logits.shape == (1, num_classes), "the outputs", tuple(logits.shape), f"{(1, num_classes)}"
    )


def _find_classifier(path: str | Path) -> TimmFolder:
    """Find the folder of a classifier, whose config.json names the classes."""
    origin = find_weights(path) if Named.of(path) else None  # whose errors need no others around
    try:
        origin = origin or find_weights(path, prefer_result=True)
        if not isinstance(origin, TimmFolder):
            raise ValueError("no classifier")
        config = origin.config
        names = origin.class_names or []
        _ = config["architecture"]
        check_depths("model_args", dict(config.get("model_args") or {}))
        _, _, _ = config["pretrained_cfg"]["input_size"]
    except (OSError, KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(
            f"--checkpoint must be a fine-tuning run or a classifier's folder, got {path} "
            f"({type(error).__name__}: {error})"
        ) from error
    if not names or len(names) != config.get("num_classes"):
        raise ValueError(
            f"--checkpoint must be a classifier with the names of its classes, got {origin.shown} "
            f"with {len(names)} names for {config.get('num_classes')} classes; an encoder has to "
            "be fine-tuned first"
        )
    stated = dict(config.get("model_args") or {}).get("num_classes", len(names))
    allowed = f"{len(names)}"
    check(stated == len(names), f"model_args.num_classes of {origin.shown}", stated, allowed)
    return origin


def _build_own(encoder: str, config: Mapping[str, Any], num_classes: int) -> nn.Module:
    """Build a classifier that is not timm's own, as its config.json describes it."""
    arguments = dict(config["model_args"])
    size = arguments.pop("img_size")
    return create_model(
        encoder,
        image_size=size if isinstance(size, int) else (size[0], size[1]),
        in_chans=config["pretrained_cfg"]["input_size"][0],
        num_classes=num_classes,
        model_args=arguments,
    ).model
