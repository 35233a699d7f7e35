"""Write a timm model as model.onnx, for any number of images."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from timm.models.hiera import MaskUnitAttention
from torch import nn

from ..errors import is_installed

INPUT, FILE = "images", "model.onnx"


def save_onnx(model: nn.Module, input_size: Sequence[int], folder: Path) -> None:
    """Write model.onnx: "images" (N, C, H, W) float32 -> "logits" (N, classes), or "features".

    Weights of more than 1.5 GB lie beside it, in model.onnx.data. Without classes, the output is
    that of timm's model: (N, D), pooled and normalised.

    Args:
        model: The timm model, in evaluation mode.
        input_size: The size (C, H, W) of an image.
        folder: The folder, which exists.

    Raises:
        ValueError: onnx is not installed, or torch cannot export the model.
    """
    missing = [name for name in ("onnx", "onnxscript") if not is_installed(name)]
    if missing:
        needed = " and ".join(missing)
        raise ValueError(f"--format onnx needs {needed}: pip install -e '.[onnx]' in the clone")
    for module in model.modules():
        if isinstance(module, MaskUnitAttention):  # its windows are an axis that ONNX has no op for
            module.fused_attn = False
    images = torch.zeros(2, *input_size)
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's, about its own parts
            program = torch.onnx.export(
                model,
                (images,),
                input_names=[INPUT],
                output_names=["logits" if model.num_classes else "features"],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            program.save(folder / FILE)
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        raise ValueError(f"torch can't export the model to ONNX: {error}") from error
    finally:
        exporter.setLevel(level)
