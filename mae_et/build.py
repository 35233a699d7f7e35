"""Build what a configuration describes: the model, its curriculum and the images.

`pretrain`, `plan`, `search` and the benchmarks set up a run here, so they find its errors in the
same order: those of the model and its stages first, before any data is read.
"""

from __future__ import annotations

from functools import cache, partial

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from . import data
from .config import ModelConfig, PretrainConfig, to_dict
from .curriculum import Curriculum, as_pair, num_training_steps
from .evaluation import ProbeImages, load_probe_images
from .model import MaskedModel, create_masked, training_flops
from .training import RunImages, main_process_first


def build_model(config: PretrainConfig) -> MaskedModel:
    """Build the model of a run, with the same new weights in every process.

    Raises:
        ValueError: The model cannot be built, or does not accept the size of a stage.
    """
    set_seed(config.run.seed)
    model = create_masked(to_dict(config.model), allow_code=True)
    _check_stages(config, model)
    return model


def build_on_meta(config: ModelConfig) -> MaskedModel:
    """Build a model on the meta device: its shapes and what it accepts, without memory.

    Raises:
        ValueError: The model cannot be built.
    """
    with torch.device("meta"):
        return create_masked(to_dict(config), allow_code=True)


def build_model_on_meta(config: PretrainConfig) -> MaskedModel:
    """Build the model of a run on the meta device, without memory.

    Raises:
        ValueError: The model cannot be built, or does not accept the size of a stage.
    """
    model = build_on_meta(config.model)
    _check_stages(config, model)
    return model


def _check_stages(config: PretrainConfig, model: MaskedModel) -> None:
    own = config.curriculum.own_sizes if model.mask_block > 1 else []
    for size in own:  # the curriculum would call the mask unit a patch
        model.check_input_size(size)
    sizes = config.curriculum.stage_sizes(full_size=model.full_size, multiple=model.size_multiple)
    for size in sizes:
        model.check_input_size(size)


def full_size_steps(config: PretrainConfig, num_images: int) -> int:
    """Return the number of optimizer steps in `optim.epochs` passes at full size.

    With `curriculum.cost` this is the budget, and the run has more steps.

    Raises:
        ValueError: There would be no step.
    """
    return num_training_steps(
        epochs=config.optim.epochs, num_images=num_images, batch_size=config.optim.batch_size
    )


def build_curriculum(config: PretrainConfig, model: MaskedModel, num_images: int) -> Curriculum:
    """Build the curriculum of a run.

    Args:
        config: The run.
        model: Its model, on any device.
        num_images: Number of training images.

    Raises:
        ValueError: There are fewer steps than stages, or a stage does not fit.
    """
    planned = config.curriculum.build(
        full_size=model.full_size,
        multiple=model.size_multiple,
        num_steps=full_size_steps(config, num_images),
        flops=cache(partial(training_flops, model)),
    )
    curriculum = config.schedule_of(planned)
    for stage in curriculum.stages:
        model.check_input_size(stage.size)
    return curriculum


def build_images(
    config: PretrainConfig, model: MaskedModel, accelerator: Accelerator
) -> tuple[RunImages, Curriculum]:
    """Open the images of a run, and build its curriculum, whose length depends on their number.

    Args:
        config: The run.
        model: Its model, on any device.
        accelerator: The accelerator of this process.

    Raises:
        ValueError: The images cannot be read, or the batch, the stages or the replay buffer do not
            fit; every process raises it.
    """
    optim, world = config.optim, accelerator.num_processes
    chunk_size = data.split_batch(optim.batch_size, optim.micro_batch_size, world)
    train, held_out, curriculum = main_process_first(
        accelerator, lambda: open_samples(config, model)
    )
    main_process_first(
        accelerator, lambda: data.check_replay(config, curriculum, chunk_size, world, held_out)
    )
    return RunImages(train=train, held_out=held_out, chunk_size=chunk_size), curriculum


def build_probe_images(
    config: PretrainConfig, model: MaskedModel, accelerator: Accelerator
) -> ProbeImages:
    """Open the labelled images of the run's probes.

    Args:
        config: The run.
        model: Its model, on any device.
        accelerator: The accelerator of this process.

    Raises:
        ValueError: There are no labels, or only one class; every process raises it.
    """
    optim, world = config.optim, accelerator.num_processes
    load = partial(
        load_probe_images,
        config.eval,
        config.data,
        size=as_pair(model.full_size),
        in_chans=model.in_chans,
        chunk_size=data.split_batch(optim.batch_size, optim.micro_batch_size, world),
        seed=config.run.seed,
    )
    return main_process_first(accelerator, load)


def open_samples(
    config: PretrainConfig, model: MaskedModel
) -> tuple[data.Samples | data.StreamedSamples, data.Samples, Curriculum]:
    """Open the training samples and the held-out samples of a run, in this process only.

    The size of the images may depend on the curriculum, which is returned too.

    Raises:
        ValueError: The images cannot be read, or the stages do not fit.
    """
    source, seed, size = config.data, config.run.seed, as_pair(model.full_size)
    data.allow_pixels(source.max_pixels)
    train, held_out = data.open_images(source, model.in_chans, seed)
    curriculum = build_curriculum(config, model, len(train))
    clock = data.sample_clock(config, curriculum)
    augment = _augmentation(config, model, curriculum, clock)
    transform = data.EvalTransform(size, model.num_units)
    still = data.Samples(held_out, transform, seed, shuffle=False)
    still[0]  # if no image can be read, fail now
    if isinstance(train, data.StreamedImages):
        shuffled = source.shuffle_buffer
        stream = data.StreamedSamples(train, augment, seed, clock=clock, shuffle_buffer=shuffled)
        return stream, still, curriculum
    samples = data.Samples(train, augment, seed, clock=clock)
    samples[0]  # likewise if none can be augmented
    return samples, still, curriculum


def _augmentation(
    config: PretrainConfig,
    model: MaskedModel,
    curriculum: Curriculum,
    clock: data.SampleClock,
) -> data.PretrainTransform:
    """Return the augmentation of the training images, which may depend on the stage."""
    source = config.data
    at_stage = partial(data.stage_size, curriculum, clock)
    return data.PretrainTransform(
        as_pair(model.full_size),
        model.num_units,
        source.crop_scale,
        source.flip,
        at_stage if source.downsample == "loader" else None,
        source.first_crop_scale,
        source.color_jitter,
        source.first_color_jitter,
        partial(data.augment_progress, curriculum, clock),
    )
