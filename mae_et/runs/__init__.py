"""Read what runs leave on disk, without Accelerate: their files, checkpoints and history.

Imports `config`, `errors` and `curriculum`.
"""

from .atomic import lock, new_folder, remove_folder, replace_folder, write_text
from .checkpoints import CHECKPOINT_PREFIX, Checkpoint
from .history import Kind, RunHistory, find_runs, probe_file
from .run import Run

__all__ = [
    "CHECKPOINT_PREFIX",
    "Checkpoint",
    "Kind",
    "Run",
    "RunHistory",
    "find_runs",
    "lock",
    "new_folder",
    "probe_file",
    "remove_folder",
    "replace_folder",
    "write_text",
]
