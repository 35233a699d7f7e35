"""The training loop of pretraining and fine-tuning, and what it needs while it runs.

Imports `runs`, `data`, `config` and the leaves.
"""

from .bad_images import BadImages
from .checkpoint import save_beside, save_state_beside
from .compile import uncompiled
from .fsdp import is_fsdp, whole
from .interrupt import Interrupt
from .launch import leaving, main_process_first, make_accelerator
from .loop import Chunks, Trainer, is_due, train
from .metrics import Meter
from .optim import accumulate_gradients, adamw, chunks_per_micro_batch
from .run_folder import RunFolder, describe_run, writing_to

__all__ = [
    "BadImages",
    "Chunks",
    "Interrupt",
    "Meter",
    "RunFolder",
    "Trainer",
    "accumulate_gradients",
    "adamw",
    "chunks_per_micro_batch",
    "describe_run",
    "is_due",
    "is_fsdp",
    "leaving",
    "main_process_first",
    "make_accelerator",
    "save_beside",
    "save_state_beside",
    "train",
    "uncompiled",
    "whole",
    "writing_to",
]
