"""The training loop of pretraining and fine-tuning, and what it needs while it runs.

Read `loop` first, then `trainer`. Imports `runs`, `data`, `config` and the leaves.
"""

from .checkpoint import save_beside
from .compile import uncompiled
from .fsdp import is_fsdp, whole
from .images import Chunks, RunImages
from .interrupt import Interrupt
from .launch import leaving, main_process_first, make_accelerator
from .loop import Loop
from .metrics import Meter
from .optim import adamw, chunks_per_micro_batch, lamb
from .replanned import train_to_end
from .run_folder import RunFolder, check_apart, writing_to
from .trainer import Trainer, is_due

__all__ = [
    "Chunks",
    "Interrupt",
    "Loop",
    "Meter",
    "RunFolder",
    "RunImages",
    "Trainer",
    "adamw",
    "check_apart",
    "chunks_per_micro_batch",
    "is_due",
    "is_fsdp",
    "lamb",
    "leaving",
    "main_process_first",
    "make_accelerator",
    "save_beside",
    "train_to_end",
    "uncompiled",
    "whole",
    "writing_to",
]
