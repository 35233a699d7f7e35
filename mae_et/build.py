"""From a configuration to what it describes: the model, its curriculum and the images."""

from __future__ import annotations

from functools import cache, partial

import torch

from . import data
from .config import ModelConfig, PretrainConfig, to_dict
from .curriculum import Curriculum, as_pair, num_training_steps
from .data import augment_progress, sample_clock, stage_size
from .model import MaskedAutoencoder, training_flops


def build_on_meta(config: ModelConfig) -> MaskedAutoencoder:
    """The model without memory: its shapes, and what it accepts.

    Raises:
        ValueError: something about the configuration.
    """
    with torch.device("meta"):
        return MaskedAutoencoder(**to_dict(config))


def build_curriculum(
    config: PretrainConfig, model: MaskedAutoencoder, num_steps: int
) -> Curriculum:
    """The stages of a configuration, each of a size that the model accepts.

    Raises:
        ValueError: a stage does not fit the model.
    """
    curriculum = config.curriculum.build(
        full_size=model.full_size,
        multiple=model.patch_size,
        num_steps=num_steps,
        flops=cache(partial(training_flops, model)),
    )
    for stage in curriculum.stages:
        model.check_input_size(stage.size)
    return curriculum


def load_images(
    config: PretrainConfig, model: MaskedAutoencoder
) -> tuple[data.Samples | data.StreamedSamples, data.Samples, Curriculum]:
    """The streams of training images and of held-out images, and the curriculum.

    Its length depends on the number of images, and the size of the images may depend on it.
    """
    source, seed = config.data, config.run.seed
    size, num_patches = as_pair(model.full_size), model.num_patches
    train, held_out = data.open_images(source, model.in_chans, seed)
    batch_size = config.optim.batch_size
    num_steps = num_training_steps(
        epochs=config.optim.epochs, num_images=len(train), batch_size=batch_size
    )
    curriculum = build_curriculum(config, model, num_steps)
    clock = sample_clock(config, curriculum)
    at_stage = partial(stage_size, curriculum, clock)
    size_at = at_stage if source.downsample == "loader" else None
    augment = data.PretrainTransform(
        size,
        num_patches,
        source.crop_scale,
        source.flip,
        size_at,
        source.first_crop_scale,
        source.color_jitter,
        source.first_color_jitter,
        partial(augment_progress, curriculum, clock),
    )
    still = data.Samples(held_out, data.EvalTransform(size, num_patches), seed, shuffle=False)
    still[0]  # if not a single image can be read, say so now
    if isinstance(train, data.StreamedImages):
        stream = data.StreamedSamples(
            train, augment, seed, clock=clock, shuffle_buffer=source.shuffle_buffer
        )
        return stream, still, curriculum
    samples = data.Samples(train, augment, seed, clock=clock)
    samples[0]  # likewise, if none can be augmented
    return samples, still, curriculum
