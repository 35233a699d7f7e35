"""Pretraining, to be read from top to bottom: the run, a step of it, and its evaluation.

What the configuration describes is built in `mae_et.build`; the loop around the steps is
`mae_et.training.loop`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn

from . import data
from .build import build_images, build_model, build_probe_images
from .config import PretrainConfig, Resume, to_dict
from .curriculum import Curriculum, Size, as_pair
from .evaluation import ProbeImages, probe_scores
from .lowfreq import low_frequency_crop
from .model import MaskedModel, create_masked
from .runs import Run
from .training import (
    Chunks,
    Interrupt,
    Loop,
    RunFolder,
    Trainer,
    is_due,
    is_fsdp,
    make_accelerator,
    train_to_end,
    uncompiled,
    whole,
)
from .weights import export_encoder, load_initial_weights, warn_of_other_normalisation

log = logging.getLogger(__name__)


def pretrain(
    config: PretrainConfig,
    *,
    resume: Resume = False,
    stop: int | None = None,
    interrupt: Interrupt | None = None,
    began: float | None = None,
    planned: Mapping[Size, float] | None = None,
) -> None:
    """Run a configuration to its end; its folder then holds the encoder.

    Args:
        config: The run.
        resume: Whether to resume the run in `run.output_dir` from its last checkpoint; "auto" to do
            so if it holds one.
        stop: The step before which to end, without writing an encoder; None to train to the end.
        interrupt: Notes signals that ask the run to stop; None to make one for this run.
        began: When the hours of `run.hours` began, by `time.monotonic`; None for now.
        planned: Seconds of a step at each size, as far as they were measured before.

    Raises:
        ValueError: Something is wrong with the configuration or the data, before training.
        RunStoppedError: The run cannot continue: too many steps are not finite, or too many images
            are unreadable.
        RunInterruptedError: A signal asked the run to stop; the message says whether a checkpoint
            was saved.
    """
    config.data.check_given()

    def train(config: PretrainConfig, resume: Resume, began: float | None) -> None:
        _train(config, resume, began, stop=stop, interrupt=interrupt, planned=planned)

    train_to_end(train, config, resume, began)


def _train(
    config: PretrainConfig,
    resume: Resume,
    began: float | None,
    *,
    stop: int | None,
    interrupt: Interrupt | None,
    planned: Mapping[Size, float] | None,
) -> None:
    """Train a run until it ends, is stopped, or is replanned; see `pretrain`."""
    accelerator = make_accelerator(config.run, allow_fsdp=True)
    model = build_model(config)
    has_checkpoint = Run(Path(config.run.output_dir)).latest_checkpoint() is not None
    if config.checkpoint is not None and not (resume and has_checkpoint):
        if accelerator.is_main_process:
            warn_of_other_normalisation(config.checkpoint, config.data)
        has_decoder = load_initial_weights(model, config.checkpoint)
        if not has_decoder and accelerator.is_main_process:
            log.warning("%s has no decoder; a new one is trained", config.checkpoint)
    images, curriculum = build_images(config, model, accelerator)
    is_probed = config.eval.knn_every is not None or config.eval.linear_every is not None
    probe_images = build_probe_images(config, model, accelerator) if is_probed else None
    trainer = Pretrainer(config, accelerator, model, curriculum, probe_images)
    with RunFolder(config, images, resume, accelerator) as run:
        Loop(
            trainer, images, run, interrupt=interrupt, stop=stop, began=began, planned=planned
        ).train()


class Pretrainer(Trainer[PretrainConfig, MaskedModel]):
    """The trainer of a masked model under a curriculum.

    Args:
        config: The run.
        accelerator: The accelerator of this process.
        model: The model, which this prepares for the accelerator's device and processes.
        curriculum: The curriculum, which gives the input size of each step.
        probe_images: Labelled images for probes of the encoder; None for no probes.
    """

    def __init__(
        self,
        config: PretrainConfig,
        accelerator: Accelerator,
        model: MaskedModel,
        curriculum: Curriculum,
        probe_images: ProbeImages | None = None,
    ) -> None:
        unpenalised = model.no_weight_decay()
        groups = param_groups_weight_decay(model, config.optim.weight_decay, unpenalised)
        super().__init__(config, accelerator, model, groups, curriculum, model.blocks)
        self.probe_images = probe_images

    def micro_batch_loss(
        self, micro_batch: Mapping[str, Tensor], size: Size, key: tuple[int, int]
    ) -> Tensor:
        """Return the mean loss () of a micro-batch, whose noise depends only on its samples."""
        return self.loss(self.model, micro_batch["image"], micro_batch["noise"], size)

    def loss(self, model: nn.Module, images: Tensor, noise: Tensor, size: Size) -> Tensor:
        """Return the loss () of images, cropped to the input size if they are larger.

        Args:
            model: The model, at that input size.
            images: (N, C, H, W) as loaded.
            noise: (N, U) for the full grid; a smaller grid uses the first values.
            size: The input size in pixels.
        """
        noise = noise[:, : self.unwrapped.num_units]
        loss: Tensor = model(self.crop(images, size), noise, masked_only=True).loss
        return loss

    def crop(self, images: Tensor, size: Size) -> Tensor:
        """Return images, loaded at full size or the stage's, as normalised float32 at the stage's.

        Normalising is affine and cropping keeps constants, so the order does not matter; cropped
        images have fewer pixels to normalise.
        """
        cropped = low_frequency_crop(images.float(), as_pair(size), self.config.curriculum.nyquist)
        return data.normalize(cropped, self.mean, self.std)

    def whole_model(self) -> MaskedModel:
        """Return the model in evaluation mode at full size, with all weights in every process.

        With FSDP it is a copy: the parts of the original compute in step, but processes differ in
        their numbers of images.
        """
        model = self.unwrapped
        model.set_input_size(self.schedule.full_size)
        if is_fsdp(model):
            weights = whole(model.state_dict())
            with torch.random.fork_rng(devices=[]):  # new weights draw numbers, but are not used
                model = create_masked(to_dict(self.config.model), allow_code=True)
            model.load_state_dict(weights)
            model.to(self.accelerator.device)
        return model.eval()

    @torch.no_grad()
    def evaluate(self, chunks: Chunks) -> dict[str, float]:
        """Return the mean loss of the held-out images at full size, over all processes.

        Images and masks are the same every time, so this is the loss to compare across stages.
        """
        model = self.whole_model()
        total = torch.zeros(2, device=self.accelerator.device)
        for chunk in chunks:
            batch = data.join([chunk], self.accelerator.device)
            with self.accelerator.autocast(), uncompiled():
                loss = self.loss(model, batch["image"], batch["noise"], self.schedule.full_size)
            count = loss.new_tensor(len(batch["image"]))
            total += torch.stack([loss * count, count])
        loss_sum, count = self.accelerator.reduce(total, "sum").tolist()
        return {"eval_loss": loss_sum / count}

    def is_probe_due(self, done: int) -> bool:
        """Return whether a probe of either kind is due after `done` steps."""
        return any(is_due(done, every) for every in self._probe_periods())

    def _probe_periods(self) -> tuple[int | None, int | None]:
        return self.config.eval.knn_every, self.config.eval.linear_every

    def may_start_anew(self, step: int) -> bool:
        """Return False where images are used again, whose buffer would have to be filled first."""
        size = as_pair(self.schedule.stage_at(step).size)
        return size not in [as_pair(part.size) for part in self.config.data.replay]

    def probe(self, done: int) -> dict[str, float]:
        """Return the accuracies of the probes that are due, on the features of the encoder."""
        knn, linear = (is_due(done, every) for every in self._probe_periods())
        if self.probe_images is None or not (knn or linear):
            return {}
        encode = partial(self.features, self.whole_model())
        features = self.probe_images.features(self.accelerator, encode)
        scores: list[dict[str, float]] = [{}]
        if features is not None:
            seed, device = self.config.run.seed, self.accelerator.device
            scores = [
                probe_scores(
                    *features, self.config.probe, knn=knn, linear=linear, seed=seed, device=device
                )
            ]
        broadcast_object_list(scores)
        return scores[0]

    def features(self, model: MaskedModel, images: Tensor) -> Tensor:
        """Return the features (N, D) of full-size images (N, C, H, W) as loaded."""
        with self.accelerator.autocast():
            return model.features(data.normalize(images.float(), self.mean, self.std))

    def finish(self, run: RunFolder, chunks: Chunks) -> None:
        """Write the encoder."""
        model = self.whole_model()
        if self.accelerator.is_main_process:
            folder = run.files.encoder
            mean, std = self.config.data.mean, self.config.data.std
            export_encoder(model, folder, mean=mean, std=std)
            print(f"encoder: {folder}")
