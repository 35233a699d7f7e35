"""Convert a network in stages to that of transformers, as an encoder or as a classifier.

    timm's Swin, ConvNeXt, ResNet, Hiera; our PVT  ->  SwinModel, SwinForImageClassification, …

Tensors get the names that files on the Hub have; see `to_transformers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from timm.models.convnext import ConvNeXt
from timm.models.hiera import Hiera
from timm.models.resnet import ResNet
from timm.models.swin_transformer import SwinTransformer
from torch import nn

from ...errors import first_line
from ...model import PyramidVisionTransformer
from ..to_transformers import Converted, label_fields, to_hub
from .attention import HIERA, PVT, SWIN
from .convolutions import CONVNEXT, RESNET
from .kind import Kind

KINDS: dict[type[nn.Module], Kind] = {
    ConvNeXt: CONVNEXT,
    Hiera: HIERA,
    PyramidVisionTransformer: PVT,
    ResNet: RESNET,
    SwinTransformer: SWIN,
}

INSTEAD = "export to timm or onnx instead"


def to_backbone(network: nn.Module, class_names: Sequence[str], image_size: int) -> Converted:
    """Convert an encoder or a classifier.

    Args:
        network: The network.
        class_names: The names of its classes; empty for an encoder.
        image_size: Pixels of a side of its images.

    Raises:
        ValueError: The network cannot be expressed in transformers; the message says why.
    """
    kind = _kind(network)
    pool = _pool(network)
    lacking = {
        **kind.lacks(network),
        f"a classifier of global_pool {pool!r}": bool(class_names) and pool != kind.pool,
    }
    found = ", ".join(what for what, is_there in lacking.items() if is_there)
    if found:
        raise ValueError(f"transformers' {kind.name} can't express {found}; {INSTEAD}")
    config = {"num_channels": network.in_chans, "image_size": image_size, **kind.config(network)}
    weights = to_hub(kind.weights(network), kind.renaming(network))
    if not class_names:
        return Converted(f"{kind.name}Model", config, weights)
    config |= {"num_labels": len(class_names), **label_fields(class_names)}
    prefix = kind.name.lower()
    weights = {k if k.startswith("classifier.") else f"{prefix}.{k}": v for k, v in weights.items()}
    return Converted(f"{kind.name}ForImageClassification", config, weights)


def check_same(network: nn.Module, converted: Converted, folder: Path, image_size: int) -> None:
    """Open a folder with transformers, and compare its outputs with those of the network.

    So what no list knows (an argument of timm's, a change in transformers) is noticed here.

    Args:
        network: The network, in evaluation mode.
        converted: What the folder was written from.
        folder: The folder.
        image_size: Pixels of a side of its images.

    Raises:
        ValueError: Tensors are missing or not known, or the outputs differ.
    """
    import transformers

    name, logging = converted.architecture, cast(Any, transformers.utils.logging)
    shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        opened, info = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
        generator = torch.Generator().manual_seed(0)
        shape = (2, converted.config["num_channels"], image_size, image_size)
        images = torch.randn(shape, generator=generator)
        with torch.no_grad():
            output = opened.eval()(images)
            is_classifier = name.endswith("ForImageClassification")
            theirs = output.logits if is_classifier else output.last_hidden_state
            ours = network(images) if is_classifier else network.forward_features(images)  # type: ignore[operator]
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(
            f"transformers' {name} does not open what was made for it: {first_line(error)}; "
            f"{INSTEAD}"
        ) from error
    finally:
        logging.set_verbosity(shown[0])
        if shown[1]:
            logging.enable_progress_bar()
    problems = [f"{what} {sorted(map(str, names))[0]}" for what, names in info.items() if names]
    difference = (theirs.flatten() - ours.flatten()).abs().max().item()
    if not difference <= 1e-4 * max(1.0, ours.abs().max().item()):
        problems.append(f"its outputs differ by up to {difference:.2g}")
    if problems:
        raise ValueError(
            f"transformers' {name} is another network here ({', '.join(problems)}); {INSTEAD}"
        )


def _kind(network: nn.Module) -> Kind:
    """Return how a network is converted.

    Raises:
        ValueError: transformers has no such network.
    """
    if isinstance(network, ConvNeXt) and "stages.0.blocks.0.mlp.grn.weight" in network.state_dict():
        return CONVNEXT._replace(name="ConvNextV2")
    found = KINDS.get(type(network))
    if found is None:
        names = "plain ViTs, Swin, ConvNeXt, ResNet, PVT (v1) and Hiera"
        raise ValueError(
            f"--format transformers takes {names}, got a {type(network).__name__}; {INSTEAD}"
        )
    return found


def _pool(network: Any) -> str:
    """Return what a network's head pools by, as timm says it."""
    head = getattr(network, "head", None)
    pooling = getattr(network, "global_pool", None) or getattr(head, "global_pool", None)
    if pooling is None:  # Hiera's head
        return str(getattr(head, "pool_type", ""))
    return str(getattr(pooling, "pool_type", pooling))
