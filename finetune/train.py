"""Fine-tuning, to be read from top to bottom: the run, a step of it, and its evaluation.

Source: MAE, https://arxiv.org/abs/2111.06377, Appendix A.1 and the reference implementation.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import set_seed
from timm.data import Mixup
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from mae_et import data
from mae_et.checkpoint import (
    load_checkpoint,
    save_checkpoint,
    save_timm_folder,
    save_unwrapped,
)
from mae_et.config import to_dict
from mae_et.curriculum import Curriculum, as_pair, num_training_steps
from mae_et.launch import make_accelerator, start_trackers
from mae_et.meter import Meter, UnreadableImages, describe
from mae_et.optim import (
    accumulate_gradients,
    adamw,
    learning_rate,
    set_learning_rate,
    step_if_finite,
)
from mae_et.runfolder import RunFolder, read_metrics

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
    chunk_size = data.split_batch(
        config.optim.batch_size, config.optim.micro_batch_size, accelerator.num_processes
    )
    with accelerator.main_process_first():
        train_images, eval_images, class_names = load_labelled(config)
    set_seed(config.run.seed)  # the same weights in every process
    assert config.checkpoint is not None
    model = build_classifier(config.model, len(class_names), config.checkpoint)
    num_steps = num_training_steps(
        epochs=config.optim.epochs,
        num_images=len(train_images),
        batch_size=config.optim.batch_size,
    )
    schedule = Curriculum.constant(full_size=config.model.image_size, num_steps=num_steps)
    trainer = Trainer(config, accelerator, model, schedule, class_names, chunk_size)
    with RunFolder(
        config.run.output_dir, to_dict(config), resume=resume, accelerator=accelerator
    ) as run:
        train(trainer, train_images, eval_images, chunk_size, run)


def train(
    trainer: Trainer,
    train_images: data.SampleStream,
    eval_images: data.SampleStream,
    chunk_size: int,
    run: RunFolder,
) -> None:
    """Train from the run's checkpoint, or from the start, to the end of the schedule."""
    config, accelerator = trainer.config, trainer.accelerator
    num_steps = trainer.schedule.num_steps
    start_trackers(accelerator, config)
    start = load_checkpoint(accelerator, run.checkpoint) if run.checkpoint else 0
    best = max(
        (
            line["top1"]
            for line in read_metrics(run.path)
            if line["step"] <= start and "top1" in line
        ),
        default=-1.0,
    )
    rank, world = accelerator.process_index, accelerator.num_processes
    batches = data.StepBatches(
        start,
        num_steps,
        batch_size=config.optim.batch_size,
        chunk_size=chunk_size,
        rank=rank,
        world=world,
    )
    workers, on_cuda = config.data.num_workers, accelerator.device.type == "cuda"
    loader = data.make_loader(train_images, batches, workers, on_cuda)
    shard = data.shard(len(eval_images), chunk_size, rank, world)
    eval_loader = data.make_loader(eval_images, shard, workers, on_cuda)
    meter = Meter(accelerator, config.optim.max_skipped_steps)
    num_images = len(train_images) + len(eval_images)
    unreadable = UnreadableImages(num_images, config.data.max_bad_share, run)
    chunks = unreadable.checked(meter.timed(iter(loader)))
    bar = tqdm(
        total=num_steps,
        initial=start,
        disable=not (config.run.progress and accelerator.is_main_process),
    )

    for step in range(start, num_steps):
        loss, gradient_norm = trainer.train_step(step, chunks, batches.chunks_per_step)
        meter.add(loss, gradient_norm, config.optim.batch_size)
        bar.update()

        done = step + 1
        finished = done == num_steps
        if finished or done % config.run.log_every == 0:
            epoch = done * config.optim.batch_size / len(train_images)
            metrics = {
                "epoch": epoch,
                "size": config.model.image_size,
                "lr": trainer.learning_rate(step),
            }
            metrics |= meter.read()
            run.write_metrics(metrics, done)
            bar.set_postfix_str(describe(metrics))
        if finished or trainer.is_evaluation_due(done, len(train_images)):
            with meter.excluded():
                scores = trainer.evaluate(unreadable.checked(iter(eval_loader)))
                run.write_metrics(scores, done)
                if scores["top1"] > best:
                    best = scores["top1"]
                    trainer.save_classifier(run.path / "best", scores)
                if finished:
                    trainer.save_classifier(run.path / "last", scores)
        if finished or (
            config.run.checkpoint_every is not None and done % config.run.checkpoint_every == 0
        ):
            with meter.excluded():
                save_checkpoint(accelerator, run.path, done, config.run.keep_checkpoints)

    bar.close()
    accelerator.print(f"top-1 accuracy: best {best:.2%}, last {scores['top1']:.2%}")
    accelerator.end_training()


class Trainer:
    """The classifier with its optimizer, and what happens to them in a step.

    Args:
        config: the run.
        accelerator: of this process.
        model: is prepared for the accelerator's device and processes.
        schedule: of the learning rate.
        class_names: by class number.
        chunk_size: images of a micro-batch.

    Raises:
        ValueError: mixup needs an even micro-batch and has an odd one.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        accelerator: Accelerator,
        model: VisionTransformer,
        schedule: Curriculum,
        class_names: list[str],
        chunk_size: int,
    ) -> None:
        self.config = config
        self.accelerator = accelerator
        self.unwrapped = model
        self.schedule = schedule
        self.class_names = class_names
        self.mixup = self._mixup(chunk_size)
        groups = param_groups_layer_decay(
            model,
            config.optim.weight_decay,
            no_weight_decay_list=model.no_weight_decay(),
            layer_decay=config.optim.layer_decay,
        )
        if config.run.compile:
            model.compile(dynamic=False)
        save_unwrapped(accelerator)
        self.model: nn.Module
        self.optimizer: AcceleratedOptimizer
        self.model, self.optimizer = accelerator.prepare(model, adamw(groups, config.optim.betas))

    def _mixup(self, chunk_size: int) -> Mixup | None:
        augment = self.config.augment
        if augment.mixup_prob == 0 or augment.mixup == augment.cutmix == 0:
            return None
        if chunk_size % 2:
            raise ValueError(
                "optim.micro_batch_size must be even for augment.mixup and cutmix, "
                f"got {chunk_size}"
            )
        return Mixup(
            mixup_alpha=augment.mixup,
            cutmix_alpha=augment.cutmix,
            prob=augment.mixup_prob,
            label_smoothing=augment.label_smoothing,
            num_classes=len(self.class_names),
        )

    def train_step(
        self, step: int, chunks: Iterator[dict[str, Any]], num_chunks: int
    ) -> tuple[Tensor, Tensor]:
        """One optimizer step on the next `num_chunks` chunks.

        Returns:
            (), (): this process's loss, and the norm of the gradients over all processes.
        """
        # Mixup and drop path draw from the global generators: the same at this step every time.
        key = (self.config.run.seed, step, self.accelerator.process_index)
        set_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        self.model.train()
        set_learning_rate(self.optimizer, self.learning_rate(step))
        loss = accumulate_gradients(
            self.accelerator,
            self.model,
            num_chunks,
            lambda: self.loss(*self.to_device(next(chunks))),
        )
        return loss, step_if_finite(
            self.accelerator, self.model, self.optimizer, self.config.optim.clip_grad
        )

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """(): the loss of images (N, C, H, W) with labels (N,), mixed up."""
        if self.mixup is not None:
            images, labels = self.mixup(images, labels)  # labels: (N, classes)
            return F.cross_entropy(self.model(images), labels)
        smoothing = self.config.augment.label_smoothing
        return F.cross_entropy(self.model(images), labels, label_smoothing=smoothing)

    def to_device(self, chunk: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The images (N, C, H, W) and labels (N,) of a chunk."""
        device = self.accelerator.device
        return (
            chunk["image"].to(device, non_blocking=True),
            chunk["label"].to(device, non_blocking=True),
        )

    def learning_rate(self, step: int) -> float:
        """The learning rate of the head at a step."""
        optim = self.config.optim
        return learning_rate(
            self.schedule.lr_progress(step),
            peak=optim.peak_lr,
            minimum=optim.min_lr,
            warmup=optim.warmup_epochs / optim.epochs,
        )

    def is_evaluation_due(self, done: int, num_images: int) -> bool:
        """Whether to evaluate after `done` steps: every so many, or where an epoch ends."""
        if self.config.run.eval_every is not None:
            return done % self.config.run.eval_every == 0
        batch_size = self.config.optim.batch_size
        return done * batch_size // num_images > (done - 1) * batch_size // num_images

    @torch.no_grad()
    def evaluate(self, chunks: Iterator[dict[str, Any]]) -> dict[str, float]:
        """Accuracies and loss over all images, each counted once over all processes."""
        self.model.eval()
        counts = torch.zeros(3, dtype=torch.long, device=self.accelerator.device)
        loss = torch.zeros((), device=self.accelerator.device)
        for chunk in chunks:
            pixels, labels = self.to_device(chunk)
            logits = self.model(pixels).float()
            loss += F.cross_entropy(logits, labels, reduction="sum")
            ranked = logits.topk(min(5, logits.shape[1])).indices  # (N, 5)
            hits = ranked == labels[:, None]
            counts += torch.stack(
                [hits[:, 0].sum(), hits.sum(), torch.tensor(len(labels), device=hits.device)]
            )
        top1, top5, number = self.accelerator.reduce(counts, "sum").tolist()
        return {
            "top1": top1 / number,
            "top5": top5 / number,
            "eval_loss": self.accelerator.reduce(loss, "sum").item() / number,
        }

    def save_classifier(self, folder: Path, scores: dict[str, float]) -> None:
        """Write the classifier as a folder that ``timm.create_model("local-dir:…")`` opens."""
        if not self.accelerator.is_main_process:
            return
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
