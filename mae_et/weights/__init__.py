"""Weights in and out: checkpoints of any origin, and exports to timm, transformers and ONNX.

Imports `runs`, `model`, `config` and the leaves.
"""

from .files import folder_config, load_weights, read_weights
from .origin import load_mae_checkpoint
from .pretrained import Pretrained, check_architecture, load_initial_weights, read_pretrained
from .timm_folder import export_encoder, handed_on, save_timm_folder

__all__ = [
    "Pretrained",
    "check_architecture",
    "export_encoder",
    "folder_config",
    "handed_on",
    "load_initial_weights",
    "load_mae_checkpoint",
    "load_weights",
    "read_pretrained",
    "read_weights",
    "save_timm_folder",
]
