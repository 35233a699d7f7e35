"""Supervised training, to be read from top to bottom: the run, a step of it, and its evaluation.

Fine-tuning of a pretrained encoder, or training from scratch, under a curriculum or at full size.
The loop around the steps is `mae_et.training.loop`. Sources: MAE, https://arxiv.org/abs/2111.06377,
Appendix A.1, and its reference implementation; EfficientTrain, https://arxiv.org/abs/2211.09703,
and its released code, for the order of cropping and mixing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed
from safetensors.torch import load_file
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn import functional as F

from mae_et import data
from mae_et.config import Resume
from mae_et.curriculum import Curriculum, as_pair, num_training_steps
from mae_et.errors import RunStoppedError
from mae_et.evaluation import compute_outputs
from mae_et.lowfreq import low_frequency_crop
from mae_et.model import SizedModel
from mae_et.runs import latest_checkpoint, top1_history
from mae_et.training import (
    Chunks,
    RunFolder,
    Trainer,
    accumulate_gradients,
    adamw,
    chunks_per_micro_batch,
    describe_run,
    main_process_first,
    make_accelerator,
    save_beside,
    train,
)

from .config import FinetuneConfig
from .data import LabelledSplits, erase, evaluation_samples, load_labelled, training_samples
from .loss import build_mixup, class_weights, mixes
from .model import build_classifier, parameter_groups, save_classifier, saved_top1, size_multiple
from .results import write_results

log = logging.getLogger(__name__)


def finetune(config: FinetuneConfig, *, resume: Resume = False) -> None:
    """Run a configuration to its end; its folder then holds the classifiers `best` and `last`.

    Args:
        config: the run.
        resume: go on from the last checkpoint in `run.output_dir`; auto: if it holds a run.

    Raises:
        ValueError: something about the configuration or the data, before training.
        RunStoppedError: the run can't go on: too many non-finite steps or unreadable images.
        RunInterruptedError: a signal asked to stop, and a checkpoint has been saved.
    """
    accelerator = make_accelerator(config.run)
    chunk_size = data.split_batch(
        config.optim.batch_size,
        config.optim.micro_batch_size,
        accelerator.num_processes,
        multiple=2 if mixes(config.augment) else 1,
    )
    splits = main_process_first(accelerator, lambda: load_labelled(config.data))
    num_steps = num_training_steps(
        epochs=config.optim.epochs,
        num_images=len(splits.train),
        batch_size=config.optim.batch_size,
    )
    set_seed(config.run.seed)  # the same weights in every process
    assert config.checkpoint is not None
    resumed = latest_checkpoint(Path(config.run.output_dir)) if resume else None
    weights = "none" if resumed else config.checkpoint  # a run has its own by now
    model = build_classifier(config.model, splits.class_names, weights)
    schedule = config.curriculum.build(
        full_size=config.model.image_size,
        multiple=size_multiple(model.model, config.model.image_size),
        num_steps=num_steps,
    )
    for stage in schedule.stages:
        model.check_input_size(stage.size)
    train_images = training_samples(config, splits.train, schedule)
    eval_images = evaluation_samples(config, splits.held_out)
    for stream in (train_images, eval_images):  # if not a single image can be read, say so now
        main_process_first(accelerator, partial(stream.__getitem__, 0))
    trainer = Finetuner(config, accelerator, model, schedule, splits, eval_images.images.name)
    with RunFolder(
        config.run.output_dir,
        describe_run(config, train_images, eval_images),
        type(config),
        resume,
        accelerator,
    ) as run:
        train(trainer, config, train_images, eval_images, chunk_size, run)


class Finetuner(Trainer):
    """A classifier with layer-wise decay of the learning rate.

    Args:
        config: the run.
        accelerator: of this process.
        model: is prepared for the accelerator's device and processes.
        schedule: the input size of each step, and the learning rate's progress.
        splits: gives the names of the classes and the numbers of images.
        file_name: of a row of the images to evaluate on.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        accelerator: Accelerator,
        model: SizedModel,
        schedule: Curriculum,
        splits: LabelledSplits,
        file_name: Callable[[int], str],
    ) -> None:
        groups = parameter_groups(
            model.model, config.optim.weight_decay, layer_decay=config.optim.layer_decay
        )
        super().__init__(config, accelerator, model, adamw(groups, config.optim.betas), schedule)
        self.config = config
        self.unwrapped = model
        self.mean = data.channel_statistics(config.data.mean, accelerator.device)
        self.std = data.channel_statistics(config.data.std, accelerator.device)
        self.average = None
        if config.optim.ema_decay is not None:
            self.average = ModelEmaV3(model.model, config.optim.ema_decay, use_warmup=True)
            save_beside(accelerator, self.average.module, "average.safetensors")
        self.statistics = [
            values
            for module in model.model.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            for values in (module.running_mean, module.running_var)
            if values is not None
        ]
        self.class_names = splits.class_names
        self.class_weights = class_weights(config.optim.class_weights, splits.train.labels)
        if self.class_weights is not None:
            self.class_weights = self.class_weights.to(accelerator.device)
        self.mixup = build_mixup(config.augment, len(splits.class_names))
        self.num_images, self.num_eval_images = len(splits.train), len(splits.held_out)
        self.file_name = file_name

    def train_step(self, step: int, chunks: Chunks, num_chunks: int) -> tuple[Tensor, Tensor]:
        """One optimizer step, and one of the moving average."""
        result = super().train_step(step, chunks, num_chunks)
        self.share_statistics()
        if self.average is not None:
            self.average.update(self.unwrapped.model, step + 1)
        return result

    @torch.no_grad()
    def share_statistics(self) -> None:
        """Make the running statistics of batch norms their mean over all processes.

        After every step, so that all of them, their average and a checkpoint hold the same.
        """
        if self.accelerator.num_processes == 1 or not self.statistics:
            return
        flat = torch.cat([values.flatten() for values in self.statistics])
        means = self.accelerator.reduce(flat, "mean").split([v.numel() for v in self.statistics])
        for values, mean in zip(self.statistics, means, strict=True):
            values.copy_(mean.view_as(values))

    def backward(self, step: int, chunks: Chunks, num_chunks: int) -> Tensor:
        """The gradients of a step at its stage's size, in as few micro-batches as fit.

        What mixup, drop path and the noise of erasing draw depends on the step, the process and the
        micro-batch.
        """
        size = self.schedule.stage_at(step).size
        self.unwrapped.set_input_size(size)
        chunks_per_forward = chunks_per_micro_batch(size, self.schedule.full_size, num_chunks)
        num_micro_batches = num_chunks // chunks_per_forward
        key = (self.config.run.seed, step, self.accelerator.process_index)
        seeds = iter(np.random.SeedSequence(key).generate_state(num_micro_batches))

        def next_loss() -> Tensor:
            micro_batch = data.join(
                [next(chunks) for _ in range(chunks_per_forward)], self.accelerator.device
            )
            set_seed(int(next(seeds)))  # after loading, which draws too if there are no workers
            images = data.normalize(micro_batch["image"], self.mean, self.std)
            if "kept" in micro_batch:
                images = erase(images, micro_batch["kept"])
            images = low_frequency_crop(images, as_pair(size), self.config.curriculum.nyquist)
            return self.loss(images, micro_batch["label"])

        return accumulate_gradients(self.accelerator, self.model, num_micro_batches, next_loss)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """(): the loss of images (N, C, H, W) with labels (N,), mixed up."""
        smoothing = self.config.augment.label_smoothing
        if self.mixup is not None:
            images, targets = self.mixup(images, labels)  # targets: (N, classes), smoothed
            smoothing = 0.0
        else:
            targets = F.one_hot(labels, len(self.class_names)).float()
        return F.cross_entropy(
            self.model(images), targets, weight=self.class_weights, label_smoothing=smoothing
        )

    def is_evaluation_due(self, done: int) -> bool:
        """Every so many steps, or where an epoch ends."""
        if self.config.run.eval_every is not None:
            return super().is_evaluation_due(done)
        batch_size = self.config.optim.batch_size
        return done * batch_size // self.num_images > (done - 1) * batch_size // self.num_images

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """(N, classes): the logits of full-size uint8 images, by the averaged weights if any.

        Not through the wrapper of several processes: each has its own number of batches.
        """
        with self.accelerator.autocast():
            logits: Tensor = self.classifier(data.normalize(images, self.mean, self.std))
        return logits.float()

    @property
    def classifier(self) -> nn.Module:
        """What is evaluated and handed on."""
        module: nn.Module = self.average.module if self.average else self.unwrapped.model
        return module

    @torch.no_grad()
    def evaluate(self, chunks: Chunks) -> dict[str, float]:
        """Accuracies and loss over all readable images, each once, over all processes."""
        self.classifier.eval()
        device = self.accelerator.device
        counts = torch.zeros(3, dtype=torch.long, device=device)  # top-1, top-5, images
        loss = torch.zeros((), device=device)
        for chunk in chunks:
            batch = data.join([chunk], device)
            logits = self.predict(batch["image"])[batch["is_own"]]
            labels = batch["label"][batch["is_own"]]
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

    def on_evaluation(self, run: RunFolder, scores: dict[str, float]) -> None:
        """Keep the best classifier, of those that there was space for."""
        if not self.accelerator.is_main_process:
            return
        best = run.path / "best"
        to_beat = max(top1_history(run.path), default=0.0)
        if scores["top1"] >= min(to_beat, saved_top1(best)):  # the best of all may be unsaved
            try:
                self.save(best, scores)
            except RunStoppedError as error:
                log.warning("%s; the one before stays, training goes on", error)

    def is_over(self, run: RunFolder) -> bool:
        """Whether the last `run.patience` evaluations brought nothing better."""
        patience = self.config.run.patience
        if patience is None:
            return False
        is_over = [False]
        if self.accelerator.is_main_process and (top1 := top1_history(run.path)):
            is_over = [len(top1) - 1 - top1.index(max(top1)) >= patience]
        broadcast_object_list(is_over)
        return is_over[0]

    def finish(self, run: RunFolder, chunks: Chunks) -> None:
        """Write the last classifier, and what the best one makes of the held-out images."""
        accelerator, best = self.accelerator, run.path / "best"
        top1 = top1_history(run.path) or [math.nan]  # none: metrics are gone
        if accelerator.is_main_process:
            self.save(run.path / "last", {"top1": top1[-1]})
            if not best.exists():  # there was never space for one
                self.save(best, {"top1": top1[-1]})
        accelerator.wait_for_everyone()
        self.classifier.load_state_dict(load_file(best / "model.safetensors"))
        self.classifier.eval()
        result = compute_outputs(accelerator, self.predict, chunks, self.num_eval_images)
        if result is not None:
            logits, fields = result
            kept = fields["is_own"]
            files = [self.file_name(row) for row in kept.nonzero()[:, 0].tolist()]
            write_results(run.path, files, logits[kept], fields["label"][kept], self.class_names)
            scores = f"best {saved_top1(best):.2%}, last {top1[-1]:.2%}"
            print(f"top-1 accuracy: {scores}; classifier: {best}")

    def save(self, folder: Path, scores: dict[str, float]) -> None:
        """Write the classifier, with the names of its classes."""
        save_classifier(
            self.classifier, folder, self.config.model, self.config.data, self.class_names, scores
        )
