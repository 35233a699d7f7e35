"""Pretraining, to be read from top to bottom: the run, a step of it, and how both are set up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import set_seed
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn
from tqdm import tqdm

from . import data
from .checkpoint import export_encoder, load_checkpoint, save_checkpoint, save_unwrapped
from .config import PretrainConfig, to_dict
from .curriculum import Curriculum, Size, as_pair, num_training_steps
from .launch import make_accelerator, start_trackers
from .lowfreq import low_frequency_crop
from .meter import Meter, UnreadableImages, describe
from .model import MaskedAutoencoder
from .optim import accumulate_gradients, adamw, learning_rate, set_learning_rate, step_if_finite
from .runfolder import RunFolder


def pretrain(config: PretrainConfig, *, resume: bool = False) -> None:
    """Run a configuration to its end; its folder then holds the encoder.

    Args:
        config: the run.
        resume: go on from the last checkpoint in `run.output_dir`.

    Raises:
        ValueError: something about the configuration or the data, before training.
        RunStoppedError: the run can't go on: too many non-finite steps or unreadable images.
    """
    accelerator = make_accelerator(config.run)
    set_seed(config.run.seed)  # the same weights in every process
    model = MaskedAutoencoder(**to_dict(config.model))
    build_curriculum(config, model, num_steps=1_000_000)  # its errors, before data is read
    chunk_size = data.split_batch(
        config.optim.batch_size, config.optim.micro_batch_size, accelerator.num_processes
    )
    with accelerator.main_process_first():  # which fills the data set's cache
        train_images, eval_images = load_images(config, model)
    num_steps = num_training_steps(
        epochs=config.optim.epochs,
        num_images=len(train_images),
        batch_size=config.optim.batch_size,
    )
    curriculum = build_curriculum(config, model, num_steps)
    trainer = Trainer(config, accelerator, model, curriculum)
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
    """Train from the run's checkpoint, or from the start, to the end of the curriculum."""
    config, accelerator, curriculum = trainer.config, trainer.accelerator, trainer.curriculum
    start_trackers(accelerator, config)
    start = load_checkpoint(accelerator, run.checkpoint) if run.checkpoint else 0
    rank, world = accelerator.process_index, accelerator.num_processes
    batches = data.StepBatches(
        start,
        curriculum.num_steps,
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
        total=curriculum.num_steps,
        initial=start,
        disable=not (config.run.progress and accelerator.is_main_process),
    )

    for step in range(start, curriculum.num_steps):
        loss, gradient_norm = trainer.train_step(step, chunks, batches.chunks_per_step)
        meter.add(loss, gradient_norm, config.optim.batch_size)
        bar.update()

        done = step + 1
        stage = curriculum.stage_at(step)
        finished = done == curriculum.num_steps
        if done % config.run.log_every == 0 or done == stage.stop:
            epoch = done * config.optim.batch_size / len(train_images)
            metrics = {"epoch": epoch, "size": stage.size, "lr": trainer.learning_rate(step)}
            metrics |= meter.read()
            run.write_metrics(metrics, done)
            bar.set_postfix_str(describe(metrics))
        if finished or _is_due(done, config.run.eval_every):
            with meter.excluded():
                run.write_metrics(
                    {"eval_loss": trainer.evaluate(unreadable.checked(iter(eval_loader)))}, done
                )
        if finished or _is_due(done, config.run.checkpoint_every):
            with meter.excluded():
                save_checkpoint(accelerator, run.path, done, config.run.keep_checkpoints)

    bar.close()
    if accelerator.is_main_process:
        export_encoder(
            trainer.unwrapped, run.path / "encoder", mean=config.data.mean, std=config.data.std
        )
        print(f"encoder: {run.path / 'encoder'}")
    accelerator.end_training()


class Trainer:
    """The model with its optimizer, and what happens to them in a step.

    Args:
        config: the run.
        accelerator: of this process.
        model: is prepared for the accelerator's device and processes.
        curriculum: says which input size a step has.
    """

    def __init__(
        self,
        config: PretrainConfig,
        accelerator: Accelerator,
        model: MaskedAutoencoder,
        curriculum: Curriculum,
    ) -> None:
        self.config = config
        self.accelerator = accelerator
        self.unwrapped = model
        self.curriculum = curriculum
        optimizer = adamw(
            param_groups_weight_decay(model, config.optim.weight_decay), config.optim.betas
        )
        if config.run.compile:
            model.compile(dynamic=False)  # in place: the state dict keeps its keys
            torch._dynamo.config.cache_size_limit = 64  # a graph per input size and batch shape
        save_unwrapped(accelerator)
        self.model: nn.Module
        self.optimizer: AcceleratedOptimizer
        self.model, self.optimizer = accelerator.prepare(model, optimizer)

    def train_step(
        self, step: int, chunks: Iterator[dict[str, Any]], num_chunks: int
    ) -> tuple[Tensor, Tensor]:
        """One optimizer step on the next `num_chunks` chunks.

        Returns:
            (), (): this process's loss, and the norm of the gradients over all processes.
        """
        size = self.curriculum.stage_at(step).size
        self.unwrapped.set_input_size(size)
        self.model.train()
        set_learning_rate(self.optimizer, self.learning_rate(step))

        joined = chunks_per_micro_batch(size, self.curriculum.full_size, num_chunks)

        def next_loss() -> Tensor:
            images, noise = self.to_device([next(chunks) for _ in range(joined)])
            return self.loss(images, noise, size)

        loss = accumulate_gradients(self.accelerator, self.model, num_chunks // joined, next_loss)
        return loss, step_if_finite(
            self.accelerator, self.model, self.optimizer, self.config.optim.clip_grad
        )

    def loss(self, images: Tensor, noise: Tensor, size: Size) -> Tensor:
        """(): the loss of full-size uint8 images (N, C, H, W), cropped to the input size."""
        noise = noise[:, : self.unwrapped.num_patches]
        loss: Tensor = self.model(self.crop(images, size), noise).loss
        return loss

    def to_device(self, chunks: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
        """Join chunks on the device: images (N, C, H, W) uint8, noise (N, L)."""
        images, noise = (
            torch.cat(
                [chunk[name].to(self.accelerator.device, non_blocking=True) for chunk in chunks]
            )
            for name in ("image", "noise")
        )
        return images, noise

    def crop(self, images: Tensor, size: Size) -> Tensor:
        """uint8 at full size -> normalised float32 at the stage's size.

        Normalising is affine and cropping keeps constants, so the order does not matter; cropped
        images are fewer pixels to normalise.
        """
        cropped = low_frequency_crop(images.float(), as_pair(size), self.config.curriculum.nyquist)
        return data.normalize(cropped, self.config.data.mean, self.config.data.std)

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step."""
        optim = self.config.optim
        return learning_rate(
            self.curriculum.lr_progress(step),
            peak=optim.peak_lr,
            minimum=optim.min_lr,
            warmup=optim.warmup_epochs / optim.epochs,
        )

    @torch.no_grad()
    def evaluate(self, chunks: Iterator[dict[str, Any]]) -> float:
        """Mean loss of held-out images at full size, over all processes.

        With the same images and masks every time, the one loss to compare across stages.
        """
        self.unwrapped.set_input_size(self.curriculum.full_size)
        self.model.eval()
        total = torch.zeros(2, device=self.accelerator.device)
        for chunk in chunks:
            pixels, noise = self.to_device([chunk])
            loss = self.loss(pixels, noise, self.curriculum.full_size)
            total += torch.stack([loss * len(pixels), loss.new_tensor(len(pixels))])
        loss_sum, count = self.accelerator.reduce(total, "sum").tolist()
        return float(loss_sum / count)


def chunks_per_micro_batch(size: Size, full_size: Size, num_chunks: int) -> int:
    """Full-size chunks that one forward pass of a smaller size takes in the same memory.

    The largest number that divides the step's chunks and has at most 5 % more pixels than a
    full-size chunk. (160 is to 224 as 1 to 1.96: two chunks.)
    """
    height, width = as_pair(size)
    full_height, full_width = as_pair(full_size)
    fit = 1.05 * full_height * full_width / (height * width)
    return max(n for n in range(1, num_chunks + 1) if num_chunks % n == 0 and n <= max(fit, 1))


def build_curriculum(
    config: PretrainConfig, model: MaskedAutoencoder, num_steps: int
) -> Curriculum:
    """The stages of a configuration, each of a size that the model accepts.

    Raises:
        ValueError: a stage does not fit the model.
    """
    full_size = model.full_size
    if config.curriculum.name == "constant":
        curriculum = Curriculum.constant(full_size=full_size, num_steps=num_steps)
    elif config.curriculum.name == "efficienttrain":
        curriculum = Curriculum.efficienttrain(
            full_size=full_size, patch_size=model.patch_size, num_steps=num_steps
        )
    else:
        stages = [(stage.size, stage.share) for stage in config.curriculum.stages]
        curriculum = Curriculum.from_stages(
            stages, num_steps=num_steps, patch_size=model.patch_size
        )
        if as_pair(curriculum.full_size) != as_pair(full_size):
            raise ValueError(
                f"the last of curriculum.stages must have model.image_size {full_size}, "
                f"got {curriculum.full_size}"
            )
    for stage in curriculum.stages:
        model.check_input_size(stage.size)
    return curriculum


def load_images(
    config: PretrainConfig, model: MaskedAutoencoder
) -> tuple[data.SampleStream, data.SampleStream]:
    """The streams of training images and of held-out images."""
    source, seed = config.data, config.run.seed
    assert source.path is not None
    size, num_patches = as_pair(model.full_size), model.num_patches
    train, held_out = (
        data.ImageTable(split, source.image_column, model.in_chans)
        for split in data.train_and_eval_splits(
            source.path, source.split, source.eval_split, source.eval_images, seed
        )
    )
    augment = data.PretrainTransform(size, num_patches, source.crop_scale, source.flip)
    return (
        data.SampleStream(train, augment, seed),
        data.SampleStream(held_out, data.EvalTransform(size, num_patches), seed, shuffle=False),
    )


def _is_due(done: int, every: int | None) -> bool:
    return every is not None and done % every == 0
