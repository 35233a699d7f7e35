"""What a run leaves on disk, read without Accelerate: its files, its checkpoints, its history.

Imports `config` and `errors`.
"""

from .atomic import new_folder, remove, replace
from .checkpoints import (
    latest_checkpoint,
    list_checkpoints,
    remove_unfinished,
    seal,
    sound_checkpoint,
)
from .files import read_config, read_metrics, top1_history
from .history import Kind, Run, find_runs

__all__ = [
    "Kind",
    "Run",
    "find_runs",
    "latest_checkpoint",
    "list_checkpoints",
    "new_folder",
    "read_config",
    "read_metrics",
    "remove",
    "remove_unfinished",
    "replace",
    "seal",
    "sound_checkpoint",
    "top1_history",
]
