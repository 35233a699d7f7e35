"""Weights in and out: checkpoints of any origin, and exports to timm, transformers and ONNX.

Start reading at `origin`, which identifies what lies at a path. Imports `runs`, `model`, `config`
and the leaves.
"""

from .by_name import Named
from .facts import Facts, facts_of
from .files import folder_config, load_weights, read_weights
from .into_encoder import encoder_weights, linear_head, load_encoder
from .loading import (
    load_initial_weights,
    load_mae_checkpoint,
    load_masked,
    warn_of_other_normalisation,
)
from .origin import Origin, TimmFolder, find_weights
from .pretrained import Pretrained, num_heads
from .timm_folder import OF_SIZES, export_encoder, save_own_folder, save_timm_folder

__all__ = [
    "OF_SIZES",
    "Facts",
    "Named",
    "Origin",
    "Pretrained",
    "TimmFolder",
    "encoder_weights",
    "export_encoder",
    "facts_of",
    "find_weights",
    "folder_config",
    "linear_head",
    "load_encoder",
    "load_initial_weights",
    "load_mae_checkpoint",
    "load_masked",
    "load_weights",
    "num_heads",
    "read_weights",
    "save_own_folder",
    "save_timm_folder",
    "warn_of_other_normalisation",
]
