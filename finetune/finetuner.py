"""What trains a classifier, to be read from top to bottom: a step of it, and its evaluation.

Sources: MAE, https://arxiv.org/abs/2111.06377, Appendix A.1, and its reference implementation;
EfficientTrain, https://arxiv.org/abs/2211.09703, and its released code, for the order of cropping
and mixing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed
from safetensors.torch import load_file
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn import functional as F

from mae_et import data
from mae_et.curriculum import Curriculum, Size, as_pair
from mae_et.errors import RunStoppedError
from mae_et.evaluation import compute_outputs
from mae_et.lowfreq import low_frequency_crop
from mae_et.model import SizedModel
from mae_et.training import (
    Chunks,
    RunFolder,
    Trainer,
    adamw,
    lamb,
    save_beside,
)

from .batch_norms import batch_norms, share_statistics
from .config import FinetuneConfig
from .data import LabelledSplits, erase
from .head import advice_if_start_is_best
from .loss import build_mixup, class_weights, smoothed, weighted_cross_entropy
from .model import (
    parameter_groups,
    save_classifier,
    saved_top1,
)
from .results import write_results

log = logging.getLogger(__name__)


class Finetuner(Trainer[FinetuneConfig, SizedModel]):
    """The trainer of a classifier, with layer-wise decay of the learning rate.

    Args:
        config: The run.
        accelerator: The accelerator of this process.
        model: The model, which this prepares for the accelerator's device and processes.
        schedule: The input size of each step, and the progress of the learning rate.
        splits: The labelled images, which give the names of the classes.
        held_out: The samples to evaluate on, which give the names of the images.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        accelerator: Accelerator,
        model: SizedModel,
        schedule: Curriculum,
        splits: LabelledSplits,
        held_out: data.Samples,
    ) -> None:
        groups = parameter_groups(
            model.model, config.optim.weight_decay, layer_decay=config.optim.layer_decay
        )
        super().__init__(config, accelerator, model, groups, schedule)
        self.average = None
        if config.optim.ema_decay is not None:
            self.average = ModelEmaV3(model.model, config.optim.ema_decay, use_warmup=True)
            save_beside(accelerator, self.average.module, "average.safetensors")
        self.norms = batch_norms(model.model)
        self.class_names = splits.class_names
        weights = class_weights(config.optim.class_weights, splits.train.labels)
        self.class_weights = None if weights is None else weights.to(accelerator.device)
        self.mixup = build_mixup(config.augment, len(splits.class_names))
        self.num_images, self.held_out = len(splits.train), held_out

    def make_optimizer(self, groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
        """Make the optimizer of `optim.optimizer`."""
        optim = self.config.optim
        return (lamb if optim.optimizer == "lamb" else adamw)(groups, optim.betas)

    def train_step(self, step: int, chunks: Chunks, num_chunks: int) -> tuple[Tensor, Tensor]:
        """Take one optimizer step, and update the moving average.

        After it, all processes, the average and a checkpoint hold the same statistics of norms.
        """
        result = super().train_step(step, chunks, num_chunks)
        share_statistics(self.norms, self.accelerator)
        if self.average is not None:
            self.average.update(self.unwrapped.model, step + 1)
        return result

    def micro_batch_loss(
        self, micro_batch: Mapping[str, Tensor], size: Size, key: tuple[int, int]
    ) -> Tensor:
        """Return the mean loss () of a micro-batch.

        The random draws of mixup, drop path and erasing depend on the step, the process and the
        micro-batch.
        """
        step, number = key
        sequence = np.random.SeedSequence(
            (self.config.run.seed, step, self.accelerator.process_index)
        )
        # After loading, which draws too if there are no workers.
        set_seed(int(sequence.generate_state(number + 1)[-1]))
        images = data.normalize(micro_batch["image"], self.mean, self.std)
        if "kept" in micro_batch:
            images = erase(images, micro_batch["kept"])
        images = low_frequency_crop(images, as_pair(size), self.config.curriculum.nyquist)
        return self.loss(images, micro_batch["label"])

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Mix up images (N, C, H, W) and their labels (N,), and return the loss ()."""
        smoothing = self.config.augment.label_smoothing
        if self.mixup is not None:
            images, targets = self.mixup(images, labels)  # targets: (N, classes), smoothed
        else:
            targets = smoothed(labels, len(self.class_names), smoothing)
        return weighted_cross_entropy(self.model(images), targets, self.class_weights, smoothing)

    def is_evaluation_due(self, done: int) -> bool:
        """Return whether to evaluate after `done` steps: at intervals, or where an epoch ends."""
        if self.config.run.eval_every is not None:
            return super().is_evaluation_due(done)
        before, after = (
            self.schedule.batches_before(step) * self.config.optim.batch_size // self.num_images
            for step in (done - 1, done)
        )
        return done == 0 or after > before

    @property
    def evaluates_start(self) -> bool:
        """Whether a new run is evaluated before its first step: unless its head is random."""
        return self.config.optim.new_head != "random" and self.config.checkpoint != "none"

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes) of full-size images, from the averaged weights if any.

        The images bypass the wrapper for several processes: each process has its own number of
        batches.
        """
        with self.accelerator.autocast():
            logits: Tensor = self.classifier(data.normalize(images, self.mean, self.std))
        return logits.float()

    @property
    def classifier(self) -> nn.Module:
        """The network that is evaluated and saved."""
        module: nn.Module = self.average.module if self.average else self.unwrapped.model
        return module

    @torch.no_grad()
    def evaluate(self, chunks: Chunks) -> dict[str, float]:
        """Return accuracies and loss over all readable images, each once, over all processes."""
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
        """Save the classifier if it is the best of those for which there was space."""
        if not self.accelerator.is_main_process:
            return
        best = run.files.best
        to_beat = max(run.files.top1_history(), default=0.0)
        if scores["top1"] >= min(to_beat, saved_top1(best)):  # the best of all may be unsaved
            try:
                self.save(best, scores)
            except RunStoppedError as error:
                log.warning("%s; the one before stays, training continues", error)

    def is_over(self, run: RunFolder) -> bool:
        """Return whether the last `run.patience` evaluations brought no improvement."""
        patience = self.config.run.patience
        if patience is None:
            return False
        is_over = [False]
        if self.accelerator.is_main_process and (top1 := run.files.top1_history()):
            is_over = [len(top1) - 1 - top1.index(max(top1)) >= patience]
        broadcast_object_list(is_over)
        return is_over[0]

    def finish(self, run: RunFolder, chunks: Chunks) -> None:
        """Write the last classifier, and what the best one predicts for the held-out images."""
        accelerator, best = self.accelerator, run.files.best
        top1 = run.files.top1_history() or [math.nan]  # if empty, the metrics are gone
        if accelerator.is_main_process:
            self.save(run.files.last, {"top1": top1[-1]})
            if not best.exists():  # there was never space for one
                self.save(best, {"top1": top1[-1]})
        accelerator.wait_for_everyone()
        self.classifier.load_state_dict(load_file(best / "model.safetensors"))
        self.classifier.eval()
        result = compute_outputs(accelerator, self.predict, chunks, len(self.held_out))
        if result is not None:
            logits, fields = result
            kept = fields["is_own"]
            name_of = self.held_out.images.name
            files = [name_of(row) for row in kept.nonzero()[:, 0].tolist()]
            labels = fields["label"][kept]
            write_results(run.files.folder, files, logits[kept], labels, self.class_names)
            scores = f"best {saved_top1(best):.2%}, last {top1[-1]:.2%}"
            print(f"top-1 accuracy: {scores}; classifier: {best}")
            if advice := advice_if_start_is_best(run.files):
                print(advice)

    def save(self, folder: Path, scores: dict[str, float]) -> None:
        """Write the classifier, with the names of its classes."""
        save_classifier(
            self.classifier, folder, self.config.model, self.config.data, self.class_names, scores
        )
