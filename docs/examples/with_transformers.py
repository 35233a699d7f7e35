"""Pretraining under a curriculum with the Trainer of transformers: copy it, and add your images.

Evaluations are at full size. A run that is resumed ends with the weights of one that was not, to
the bit on a CPU; with random augmentations, only if it was saved between epochs
(`save_strategy="epoch"`), since the Trainer does not restore their state within an epoch.
Tested with transformers 5.24, in one process and in two of DDP.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from mae_et import Curriculum, MaskedAutoencoder, export_encoder, learning_rate


class CurriculumTrainer(Trainer):
    """A Trainer whose steps have the input sizes and the learning rates of a curriculum."""

    def __init__(self, curriculum: Curriculum, **options: Any) -> None:
        super().__init__(**options)
        steps, max_steps = curriculum.num_steps, self.args.max_steps
        if max_steps != steps:
            raise ValueError(f"max_steps must be curriculum.num_steps, {steps}, got {max_steps}")
        self.curriculum = curriculum
        self.size: Any = curriculum.full_size  # of the last step
        self.label_names = ["images"]  # without labels, an evaluation would have no loss

    def compute_loss(self, model: nn.Module, inputs: Any, *args: Any, **options: Any) -> Any:
        """Pass on the size of the optimizer step, which several micro-batches may share."""
        if model.training:
            self.size = self.curriculum.stage_at(self.state.global_step).size
        size = self.size if model.training else self.curriculum.full_size
        inputs = {**inputs, "size": size, "masked_only": True}
        return super().compute_loss(model, inputs, *args, **options)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """Follow the curriculum: warm-up, then half a cosine, whatever `lr_scheduler_type` says."""
        warmup = self.args.get_warmup_steps(num_training_steps) / num_training_steps
        optimizer = optimizer or self.optimizer
        self.lr_scheduler = LambdaLR(
            optimizer,
            lambda step: learning_rate(self.curriculum.lr_progress(step), peak=1, warmup=warmup),
        )
        return self.lr_scheduler

    def log(self, logs: dict[str, Any], *args: Any) -> None:
        """Log the input size beside the loss of training."""
        super().log({**logs, "size": self.size} if "loss" in logs else logs, *args)


def pretrain(
    model: MaskedAutoencoder,
    train: Dataset[Tensor],
    held_out: Dataset[Tensor],
    curriculum: Curriculum,
    out: str,
    **settings: Any,
) -> None:
    """Train on normalised images (C, H, W), from the last checkpoint in `out` if there is one."""
    encoder = Path(out) / "encoder"
    if encoder.exists():
        return  # of a run that is over, the Trainer would take one more step
    trainer = CurriculumTrainer(
        curriculum,
        model=model,
        args=TrainingArguments(out, max_steps=curriculum.num_steps, **settings),
        train_dataset=train,
        eval_dataset=held_out,
        data_collator=lambda images: {"images": torch.stack(images)},
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(out) if Path(out).is_dir() else None)
    if trainer.is_world_process_zero():
        export_encoder(model, encoder)  # and mean, std of your normalisation
