"""The configuration of a run: typed, frozen sections, checked when they are built.

Imports only the leaves `curriculum`, `early_batch` and `errors`, and no torch. The parser is left
out here: only command lines need it, and they import `mae_et.config.parser`.
"""

from ..user_code import import_callable
from .curriculum import CurriculumConfig, StageConfig
from .data import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PATH_KINDS,
    DataConfig,
    ImagesConfig,
    ReplayConfig,
    SourceConfig,
)
from .embed import EmbedConfig
from .fields import BOOK_KEEPING, FREE_ON_RESUME, changed_fields, flatten, to_dict
from .local_paths import check_local_path, nearest_path
from .pretrain import HogConfig, ModelConfig, PretrainConfig
from .training import (
    EarlyBatchConfig,
    EncoderConfig,
    EvalConfig,
    OptimConfig,
    ProbeConfig,
    Resume,
    RunConfig,
    TrainingConfig,
)
from .untrusted import check_within, open_text, parse_json, parse_yaml, read_text, read_yaml

__all__ = [
    "BOOK_KEEPING",
    "FREE_ON_RESUME",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PATH_KINDS",
    "CurriculumConfig",
    "DataConfig",
    "EarlyBatchConfig",
    "EmbedConfig",
    "EncoderConfig",
    "EvalConfig",
    "HogConfig",
    "ImagesConfig",
    "ModelConfig",
    "OptimConfig",
    "PretrainConfig",
    "ProbeConfig",
    "ReplayConfig",
    "Resume",
    "RunConfig",
    "SourceConfig",
    "StageConfig",
    "TrainingConfig",
    "changed_fields",
    "check_local_path",
    "check_within",
    "flatten",
    "import_callable",
    "nearest_path",
    "open_text",
    "parse_json",
    "parse_yaml",
    "read_text",
    "read_yaml",
    "to_dict",
]
