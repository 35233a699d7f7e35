"""Load the weights of a checkpoint: as a whole masked autoencoder, or as the start of a new one."""

from __future__ import annotations

import logging
import math
from collections.abc import Container
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
from timm.models.hiera import Hiera

from ..config import ImagesConfig
from ..model import MaskedAutoencoder, create_masked
from .files import check_shapes, load_weights
from .origin import find_weights
from .pretrained import Pretrained, describe
from .unwrap import DECODER, MASK_TOKEN

log = logging.getLogger(__name__)


def load_mae_checkpoint(path: str | Path, **overrides: Any) -> MaskedAutoencoder:
    """Load a masked autoencoder with the weights of a checkpoint.

    Args:
        path: A .pth file in the layout of the reference implementation
            (https://github.com/facebookresearch/mae; ViT-B, L or H with decoder), a run's folder,
            one of its checkpoints, or a folder of transformers' ViTMAEForPreTraining.
        overrides: Further arguments of `MaskedAutoencoder` (mask_ratio, target, …).

    Raises:
        ValueError: The checkpoint is missing, damaged, unsafe, or of another architecture.
    """
    origin = find_weights(path)
    arguments, weights = origin.mae()
    # What is wrong with the checkpoint, before the overrides, and before memory is taken.
    check_shapes(origin.build_on_meta(arguments).state_dict(), weights, path)
    model = create_masked({**arguments, **overrides})
    load_weights(model, weights, path)
    return model


def warn_of_other_normalisation(path: str | Path, images: ImagesConfig) -> None:
    """Warn if images are normalised otherwise than those that a checkpoint was trained on.

    Args:
        path: The checkpoint; see `find_weights`.
        images: The section `data` of the configuration.

    Raises:
        ValueError: There are no weights at the path.
    """
    theirs = find_weights(path, prefer_result=True).normalisation
    ours = {name: list(getattr(images, name)) for name in theirs}
    if theirs and not all(
        len(theirs[name]) == len(ours[name])
        and all(map(partial(math.isclose, rel_tol=0.01, abs_tol=0.001), theirs[name], ours[name]))
        for name in theirs
    ):
        log.warning(
            "%s was trained on images normalised by mean %s and std %s, not by %s and %s; to do as "
            "it was trained: %s",
            path,
            *theirs.values(),
            *ours.values(),
            " ".join(f"--data.{name} '{values}'" for name, values in theirs.items()),
        )


def _without_head(pretrained: Pretrained, own: Container[str], path: str | Path) -> Pretrained:
    """Return the weights of a classifier without its head, which pretraining has no use for.

    Args:
        pretrained: The weights.
        own: The names of the model's own weights; Hiera has its last norm in its head.
        path: Where they come from, for messages.

    Raises:
        ValueError: The classifier averages the patches, so its encoder has no norm.
    """
    weights, heads = pretrained.weights, ("encoder.head", "encoder.fc_norm.")
    kept = {k: v for k, v in weights.items() if k in own or not k.startswith(heads)}
    if len(kept) == len(weights):
        return pretrained
    if "encoder.fc_norm.weight" in weights and "encoder.norm.weight" not in weights:
        raise ValueError(
            f"checkpoint {path} is a classifier that averages patches before its norm; give the "
            "encoder that it was fine-tuned from, or one fine-tuned with model.global_pool token"
        )
    log.warning("%s is a classifier; its head is left out", path)
    return replace(pretrained, weights=kept)


def _check_method(model: MaskedAutoencoder, pretrained: Pretrained, path: str | Path) -> None:
    """Check that a checkpoint is of the kind of network that the model's method trains.

    Raises:
        ValueError: It is of that of another method.
    """
    name = pretrained.encoder
    if name is None or not timm.is_model(name):
        return
    theirs, ours = (
        "hiera" if module == Hiera.__module__ else "mae"
        for module in (timm.model_entrypoint(name).__module__, type(model.encoder).__module__)
    )
    if theirs != ours:
        raise ValueError(
            f"checkpoint {path} must be of model.method {ours}, got an encoder {name}; give "
            f"--model.method {theirs} --model.encoder {name}"
        )


def load_initial_weights(model: MaskedAutoencoder, path: str | Path) -> bool:
    """Start a model from the weights of a checkpoint; see `find_weights` for its kinds.

    Position tables of a different grid are resampled to the model's full grid.

    Args:
        model: The model that gets the weights.
        path: The checkpoint.

    Returns:
        Whether the checkpoint has a decoder; if not, the model's decoder stays new.

    Raises:
        ValueError: The checkpoint is missing, damaged or unsafe, or is of a different model; the
            message says which options the checkpoint needs.
    """
    pretrained = find_weights(path).read()
    if pretrained.note:
        log.warning(pretrained.note)
    _check_method(model, pretrained, path)
    pretrained = _without_head(pretrained, model.state_dict(), path)
    pretrained.check_fits(describe(model, model.state_dict()), path)
    pretrained.check_layers(model.encoder, path)
    predicted = pretrained.weights.get("decoder_pred.bias")
    if predicted is not None and len(predicted) != model.target.num_values:
        raise ValueError(
            f"checkpoint {path} predicts {len(predicted)} values of a patch, and model.target "
            f"{model.target_name} has {model.target.num_values}; give the target it was trained "
            "for, or its encoder alone, such as RUN/encoder"
        )
    names = ("encoder.pos_embed", "decoder_pos_embed")
    tables = {
        name: pretrained.resampled(name, model.full_grid, table.num_prefix, table.per_patch)
        for name, table in zip(names, model.position_tables(), strict=True)
    }
    weights = pretrained.weights | {k: v for k, v in tables.items() if v is not None}
    may_miss = () if pretrained.has_decoder else DECODER
    if not pretrained.has_decoder and weights.pop(MASK_TOKEN, None) is not None:
        log.warning("%s has a mask token and no decoder; the token is left out", path)
    load_weights(model, weights, path, may_miss=may_miss)
    return pretrained.has_decoder
