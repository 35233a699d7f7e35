"""Fine-tuning, to be read from top to bottom: the run, a step of it, and its evaluation.

The loop around the steps is `mae_et.loop.train`. Source: MAE, https://arxiv.org/abs/2111.06377,
Appendix A.1, and the reference implementation.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from timm.data import Mixup
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_layer_decay
from torch import Tensor
from torch.nn import functional as F

from mae_et import data
from mae_et.curriculum import Curriculum, as_pair, num_training_steps
from mae_et.launch import main_process_first, make_accelerator
from mae_et.loop import Chunks, Trainer, train
from mae_et.optim import accumulate_gradients, adamw
from mae_et.runfolder import RunFolder, describe_run, read_metrics
from mae_et.timm_folder import save_timm_folder

from .config import FinetuneConfig
from .data import load_labelled
from .model import build_classifier


def finetune(config: FinetuneConfig, *, resume: bool = False) -> None:
    """Run a configuration to its end; its folder then holds the classifiers `best` and `last`.

    Args:
        config: the run.
        resume: go on from the last checkpoint in `run.output_dir`.

    Raises:
        ValueError: something about the configuration or the data, before training.
        RunStoppedError: the run can't go on: too many non-finite steps or unreadable images.
    """
    accelerator = make_accelerator(config.run)
    mixes = config.augment.mixup_prob > 0 and config.augment.mixup + config.augment.cutmix > 0
    chunk_size = data.split_batch(
        config.optim.batch_size,
        config.optim.micro_batch_size,
        accelerator.num_processes,
        multiple=2 if mixes else 1,  # timm's mixup pairs the images of a batch
    )
    train_images, eval_images, class_names = main_process_first(
        accelerator, lambda: load_labelled(config)
    )
    set_seed(config.run.seed)  # the same weights in every process
    assert config.checkpoint is not None
    model = build_classifier(config.model, len(class_names), config.checkpoint)
    num_steps = num_training_steps(
        epochs=config.optim.epochs,
        num_images=len(train_images),
        batch_size=config.optim.batch_size,
    )
    schedule = Curriculum.constant(full_size=config.model.image_size, num_steps=num_steps)
    mixup = build_mixup(config, len(class_names)) if mixes else None
    trainer = Finetuner(config, accelerator, model, schedule, class_names, mixup, len(train_images))
    with RunFolder(
        config.run.output_dir, describe_run(config, train_images, eval_images), resume, accelerator
    ) as run:
        train(trainer, config, train_images, eval_images, chunk_size, run)


class Finetuner(Trainer):
    """A classifier with layer-wise decay of the learning rate.

    Args:
        config: the run.
        accelerator: of this process.
        model: is prepared for the accelerator's device and processes.
        schedule: of the learning rate.
        class_names: by class number.
        mixup: mixes images and labels; None for no mixing.
        num_images: of an epoch.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        accelerator: Accelerator,
        model: VisionTransformer,
        schedule: Curriculum,
        class_names: list[str],
        mixup: Mixup | None,
        num_images: int,
    ) -> None:
        groups = param_groups_layer_decay(
            model,
            config.optim.weight_decay,
            no_weight_decay_list=model.no_weight_decay(),
            layer_decay=config.optim.layer_decay,
        )
        super().__init__(config, accelerator, model, adamw(groups, config.optim.betas), schedule)
        self.config = config
        self.unwrapped = model
        self.class_names = class_names
        self.mixup = mixup
        self.num_images = num_images

    def backward(self, step: int, chunks: Chunks, num_chunks: int) -> Tensor:
        """The gradients of a step; what mixup and drop path draw depends on the step alone."""
        key = (self.config.run.seed, step, self.accelerator.process_index)
        seeds = iter(np.random.SeedSequence(key).generate_state(num_chunks))

        def next_loss() -> Tensor:
            batch = data.join([next(chunks)], self.accelerator.device)
            set_seed(int(next(seeds)))  # after loading, which draws too if there are no workers
            return self.loss(batch["image"], batch["label"])

        return accumulate_gradients(self.accelerator, self.model, num_chunks, next_loss)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """(): the loss of images (N, C, H, W) with labels (N,), mixed up."""
        if self.mixup is not None:
            images, labels = self.mixup(images, labels)  # labels: (N, classes)
            return F.cross_entropy(self.model(images), labels)
        smoothing = self.config.augment.label_smoothing
        return F.cross_entropy(self.model(images), labels, label_smoothing=smoothing)

    def is_evaluation_due(self, done: int) -> bool:
        """Every so many steps, or where an epoch ends."""
        if self.config.run.eval_every is not None:
            return super().is_evaluation_due(done)
        batch_size = self.config.optim.batch_size
        return done * batch_size // self.num_images > (done - 1) * batch_size // self.num_images

    @torch.no_grad()
    def evaluate(self, chunks: Chunks) -> dict[str, float]:
        """Accuracies and loss over all images, each counted once over all processes."""
        self.model.eval()
        device = self.accelerator.device
        counts = torch.zeros(3, dtype=torch.long, device=device)  # top-1, top-5, images
        loss = torch.zeros((), device=device)
        for chunk in chunks:
            batch = data.join([chunk], device)
            labels = batch["label"]
            logits = self.model(batch["image"]).float()  # (N, classes)
            loss += F.cross_entropy(logits, labels, reduction="sum")
            ranked = logits.topk(min(5, logits.shape[1])).indices  # (N, 5)
            hits = ranked == labels[:, None]
            counts += torch.stack([hits[:, 0].sum(), hits.sum(), counts.new_tensor(len(labels))])
        top1, top5, number = self.accelerator.reduce(counts, "sum").tolist()
        return {
            "top1": top1 / number,
            "top5": top5 / number,
            "eval_loss": self.accelerator.reduce(loss, "sum").item() / number,
        }

    def on_evaluation(self, run: RunFolder, scores: dict[str, float], done: int) -> None:
        """Keep the best classifier."""
        if self.accelerator.is_main_process and scores["top1"] >= max(_top1(run, done)):
            self.save_classifier(run.path / "best", scores)

    def finish(self, run: RunFolder) -> None:
        """Write the last classifier."""
        if self.accelerator.is_main_process:
            top1 = _top1(run, self.schedule.num_steps) or [math.nan]  # none: metrics are gone
            self.save_classifier(run.path / "last", {"top1": top1[-1]})
            print(f"top-1 accuracy: best {max(top1):.2%}, last {top1[-1]:.2%}")

    def save_classifier(self, folder: Path, scores: dict[str, float]) -> None:
        """Write the classifier as a folder that ``timm.create_model("local-dir:…")`` opens."""
        model, source = self.config.model, self.config.data
        input_size = [model.in_chans, *as_pair(model.image_size)]
        save_timm_folder(
            self.unwrapped,
            folder,
            model_args={
                **model.encoder_args,
                "img_size": input_size[1:],
                "patch_size": list(self.unwrapped.patch_embed.patch_size),
                "in_chans": model.in_chans,
                "global_pool": model.global_pool,
            },
            pretrained_cfg={
                "input_size": input_size,
                "mean": list(source.mean),
                "std": list(source.std),
                "crop_pct": source.eval_crop,
                "interpolation": "bicubic",
            },
            label_names=self.class_names,
            metrics=scores,
        )


def _top1(run: RunFolder, done: int) -> list[float]:
    """The accuracies of a run's evaluations up to a step, in order."""
    return [
        line["top1"] for line in read_metrics(run.path) if "top1" in line and line["step"] <= done
    ]


def build_mixup(config: FinetuneConfig, num_classes: int) -> Mixup:
    """timm's mixup and cutmix."""
    augment = config.augment
    return Mixup(
        mixup_alpha=augment.mixup,
        cutmix_alpha=augment.cutmix,
        prob=augment.mixup_prob,
        label_smoothing=augment.label_smoothing,
        num_classes=num_classes,
    )
