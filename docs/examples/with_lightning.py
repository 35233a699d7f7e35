"""Pretraining under a curriculum with Lightning: copy it, and add your images.

Validation is at full size. Tested with Lightning 2.6, in one process and in two of DDP.
"""

from pathlib import Path
from typing import Any

import lightning
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from mae_et import Curriculum, MaskedAutoencoder, export_encoder, learning_rate


class CurriculumModule(lightning.LightningModule):
    """A masked autoencoder whose steps have the input sizes and learning rates of a curriculum."""

    def __init__(
        self, model: MaskedAutoencoder, curriculum: Curriculum, peak_lr: float, warmup: float = 0.1
    ) -> None:
        super().__init__()
        self.model, self.curriculum = model, curriculum
        self.peak_lr, self.warmup = peak_lr, warmup

    def training_step(self, images: Tensor) -> Tensor:
        """Return the loss at the size of the optimizer step, which several batches may share."""
        size = self.curriculum.stage_at(self.global_step).size
        loss: Tensor = self.model(images, size=size, masked_only=True).loss
        self.log_dict({"loss": loss, "size": size}, prog_bar=True)
        return loss

    def validation_step(self, images: Tensor) -> None:
        """Log the loss at full size."""
        output = self.model(images, size=self.curriculum.full_size, masked_only=True)
        self.log("val_loss", output.loss, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Make the learning rate follow the curriculum: warm-up, then half a cosine."""
        optimizer = AdamW(self.parameters(), self.peak_lr, betas=(0.9, 0.95), weight_decay=0.05)
        scheduler = LambdaLR(
            optimizer,
            lambda step: learning_rate(
                self.curriculum.lr_progress(step), peak=1, warmup=self.warmup
            ),
        )
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def pretrain(
    model: MaskedAutoencoder,
    train: DataLoader[Tensor],
    held_out: DataLoader[Tensor],
    curriculum: Curriculum,
    out: str,
    *,
    peak_lr: float = 1.5e-4,
    ckpt_path: str | None = None,
    **settings: Any,
) -> None:
    """Train on batches (N, C, H, W) of normalised images, from a checkpoint if one is given."""
    module = CurriculumModule(model, curriculum, peak_lr)
    trainer = lightning.Trainer(max_steps=curriculum.num_steps, default_root_dir=out, **settings)
    trainer.fit(module, train, held_out, ckpt_path=ckpt_path)
    if trainer.is_global_zero:
        export_encoder(model, Path(out) / "encoder")  # and mean, std of your normalisation
