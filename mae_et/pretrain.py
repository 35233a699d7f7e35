"""Pretraining, to be read from top to bottom: the run, a step of it, and its curriculum and images.

The loop around the steps is `mae_et.training.loop`.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn

from . import data
from .build import build_curriculum, load_images
from .config import PretrainConfig, Resume, to_dict
from .curriculum import Curriculum, Size, as_pair
from .data import check_replay
from .evaluation import ProbeImages, load_probe_images, probe_scores
from .lowfreq import low_frequency_crop
from .model import MaskedAutoencoder
from .runs import latest_checkpoint
from .training import (
    Chunks,
    RunFolder,
    Trainer,
    accumulate_gradients,
    adamw,
    chunks_per_micro_batch,
    describe_run,
    is_due,
    is_fsdp,
    main_process_first,
    make_accelerator,
    save_state_beside,
    train,
    uncompiled,
    whole,
)
from .weights import export_encoder, load_initial_weights

log = logging.getLogger(__name__)


def pretrain(config: PretrainConfig, *, resume: Resume = False, stop: int | None = None) -> None:
    """Run a configuration to its end; its folder then holds the encoder.

    Args:
        config: the run.
        resume: go on from the last checkpoint in `run.output_dir`; auto: if it holds a run.
        stop: the step before which to end, without an encoder; None for the end, and for one.

    Raises:
        ValueError: something about the configuration or the data, before training.
        RunStoppedError: the run can't go on: too many non-finite steps or unreadable images.
        RunInterruptedError: a signal asked to stop, and a checkpoint has been saved.
    """
    config.data.check_given()
    accelerator = make_accelerator(config.run, allow_fsdp=True)
    set_seed(config.run.seed)  # the same weights in every process
    model = MaskedAutoencoder(**to_dict(config.model))
    build_curriculum(config, model, num_steps=1_000_000)  # its errors, before data is read
    resumed = latest_checkpoint(Path(config.run.output_dir)) if resume else None
    if config.checkpoint is not None and resumed is None:
        has_decoder = load_initial_weights(model, config.checkpoint)
        if not has_decoder and accelerator.is_main_process:
            log.warning("%s has no decoder; a new one is trained", config.checkpoint)
    world = accelerator.num_processes
    chunk_size = data.split_batch(config.optim.batch_size, config.optim.micro_batch_size, world)
    train_images, eval_images, curriculum = main_process_first(
        accelerator, lambda: load_images(config, model)
    )
    main_process_first(
        accelerator, lambda: check_replay(config, curriculum, chunk_size, world, eval_images)
    )
    probe_images = None
    if config.eval.knn_every is not None or config.eval.linear_every is not None:
        load_labelled = partial(
            load_probe_images,
            config.eval,
            config.data,
            size=as_pair(model.full_size),
            in_chans=model.in_chans,
            chunk_size=chunk_size,
            seed=config.run.seed,
        )
        probe_images = main_process_first(accelerator, load_labelled)
    trainer = Pretrainer(config, accelerator, model, curriculum, probe_images)
    if isinstance(train_images, data.StreamedSamples):
        save_state_beside(accelerator, train_images, "stream.json")
    with RunFolder(
        config.run.output_dir,
        describe_run(config, train_images, eval_images),
        type(config),
        resume,
        accelerator,
    ) as run:
        train(trainer, config, train_images, eval_images, chunk_size, run, stop)


class Pretrainer(Trainer):
    """A masked autoencoder under a curriculum.

    Args:
        config: the run.
        accelerator: of this process.
        model: is prepared for the accelerator's device and processes.
        curriculum: says which input size a step has.
        probe_images: labelled images for probes of the encoder; None for no probes.
    """

    def __init__(
        self,
        config: PretrainConfig,
        accelerator: Accelerator,
        model: MaskedAutoencoder,
        curriculum: Curriculum,
        probe_images: ProbeImages | None = None,
    ) -> None:
        groups = param_groups_weight_decay(model, config.optim.weight_decay)
        blocks = [*model.encoder.blocks, *model.decoder_blocks]
        optimizer = adamw(groups, config.optim.betas)
        super().__init__(config, accelerator, model, optimizer, curriculum, blocks)
        self.config = config
        self.unwrapped = model
        self.probe_images = probe_images
        self.mean = data.channel_statistics(config.data.mean, accelerator.device)
        self.std = data.channel_statistics(config.data.std, accelerator.device)

    def backward(self, step: int, chunks: Chunks, num_chunks: int) -> Tensor:
        """The gradients of a step at its stage's size, in as few micro-batches as fit."""
        size = self.schedule.stage_at(step).size
        self.unwrapped.set_input_size(size)
        chunks_per_forward = chunks_per_micro_batch(size, self.schedule.full_size, num_chunks)

        def next_loss() -> Tensor:
            micro_batch = data.join(
                [next(chunks) for _ in range(chunks_per_forward)], self.accelerator.device
            )
            return self.loss(self.model, micro_batch["image"], micro_batch["noise"], size)

        return accumulate_gradients(
            self.accelerator, self.model, num_chunks // chunks_per_forward, next_loss
        )

    def loss(self, model: nn.Module, images: Tensor, noise: Tensor, size: Size) -> Tensor:
        """(): the loss of images (N, C, H, W) as loaded, cropped to the input size if still larger.

        The noise (N, L) is that of the full grid; a smaller grid uses the first values.
        """
        noise = noise[:, : self.unwrapped.num_patches]
        loss: Tensor = model(self.crop(images, size), noise, masked_only=True).loss
        return loss

    def crop(self, images: Tensor, size: Size) -> Tensor:
        """Images as loaded, at full size or the stage's -> normalised float32 at the stage's.

        Normalising is affine and cropping keeps constants, so the order does not matter; cropped
        images are fewer pixels to normalise.
        """
        cropped = low_frequency_crop(images.float(), as_pair(size), self.config.curriculum.nyquist)
        return data.normalize(cropped, self.mean, self.std)

    def whole_model(self) -> MaskedAutoencoder:
        """The model in evaluation mode at full size, with all weights in every process.

        Of shards, a copy: they compute in step, and processes differ in their numbers of images.
        """
        model = self.unwrapped
        model.set_input_size(self.schedule.full_size)
        if is_fsdp(model):
            weights = whole(model.state_dict())
            with torch.random.fork_rng(devices=[]):  # new weights draw numbers and are not used
                model = MaskedAutoencoder(**to_dict(self.config.model))
            model.load_state_dict(weights)
            model.to(self.accelerator.device)
        return model.eval()

    @torch.no_grad()
    def evaluate(self, chunks: Chunks) -> dict[str, float]:
        """Mean loss of held-out images at full size, over all processes.

        With the same images and masks every time, the one loss to compare across stages.
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
        """Every so many steps, for either kind of probe."""
        return any(is_due(done, every) for every in self._probe_periods())

    def _probe_periods(self) -> tuple[int | None, int | None]:
        return self.config.eval.knn_every, self.config.eval.linear_every

    def probe(self, done: int) -> dict[str, float]:
        """Accuracies of the probes that are due, on the mean of the encoder's patch tokens."""
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

    def features(self, model: MaskedAutoencoder, images: Tensor) -> Tensor:
        """(N, D): the mean patch token of full-size images (N, C, H, W) as loaded."""
        with self.accelerator.autocast():
            tokens = model.encoder.forward_features(
                data.normalize(images.float(), self.mean, self.std)
            )
        mean: Tensor = tokens[:, model.num_prefix_tokens :].float().mean(dim=1)
        return mean

    def finish(self, run: RunFolder, chunks: Chunks) -> None:
        """Write the encoder."""
        model = self.whole_model()
        if self.accelerator.is_main_process:
            folder = run.path / "encoder"
            mean, std = self.config.data.mean, self.config.data.std
            export_encoder(model, folder, mean=mean, std=std)
            print(f"encoder: {folder}")
