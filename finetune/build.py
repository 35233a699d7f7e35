"""Build the schedule and the samples of a run from its configuration and labelled images."""

from __future__ import annotations

from functools import partial

from accelerate import Accelerator

from mae_et.curriculum import Curriculum, num_training_steps
from mae_et.data import split_batch
from mae_et.evaluation import ProbeImages
from mae_et.model import SizedModel
from mae_et.training import RunImages, main_process_first

from .config import FinetuneConfig
from .data import LabelledSplits, evaluation_samples, training_samples
from .loss import mixes
from .model import size_multiple


def batch_chunk_size(config: FinetuneConfig, processes: int) -> int:
    """Return how many full-size images a process handles at a time; an even number for mixup.

    Args:
        config: The run.
        processes: Number of processes that train.

    Raises:
        ValueError: The batch cannot be split among the processes.
    """
    optim, multiple = config.optim, 2 if mixes(config.augment) else 1
    return split_batch(optim.batch_size, optim.micro_batch_size, processes, multiple=multiple)


def full_size_steps(config: FinetuneConfig, num_images: int) -> int:
    """Return the number of optimizer steps in `optim.epochs` passes over the training images.

    Raises:
        ValueError: There would be no step.
    """
    optim = config.optim
    return num_training_steps(
        epochs=optim.epochs, num_images=num_images, batch_size=optim.batch_size
    )


def build_schedule(config: FinetuneConfig, model: SizedModel, num_steps: int) -> Curriculum:
    """Build the curriculum of a run, and check that the model accepts each of its sizes.

    Args:
        config: The run.
        model: Its model.
        num_steps: See `full_size_steps`.

    Raises:
        ValueError: A stage does not fit the model or the run.
    """
    full_size = config.model.image_size
    planned = config.curriculum.build(
        full_size=full_size,
        multiple=size_multiple(model.model, full_size),
        num_steps=num_steps,
    )
    schedule = config.schedule_of(planned)
    for stage in schedule.stages:
        model.check_input_size(stage.size)
    return schedule


def build_images(
    config: FinetuneConfig,
    splits: LabelledSplits,
    schedule: Curriculum,
    chunk_size: int,
    accelerator: Accelerator,
) -> RunImages:
    """Make the samples of a run.

    Args:
        config: The run.
        splits: Its labelled images.
        schedule: The input size of each step, at which its images may be loaded.
        chunk_size: Images that a process handles at a time at full size.
        accelerator: The accelerator of this process.

    Raises:
        ValueError: No image can be read; every process raises it.
    """
    train = training_samples(config, splits.train, schedule)
    held_out = evaluation_samples(config, splits.held_out)
    for samples in (train, held_out):
        main_process_first(accelerator, partial(samples.__getitem__, 0))
    return RunImages(
        train=train,
        held_out=held_out,
        chunk_size=chunk_size,
        class_names=splits.class_names,
        labels=splits.train.labels,
        held_out_labels=splits.held_out.labels,
    )


def build_probe_images(config: FinetuneConfig, splits: LabelledSplits) -> ProbeImages:
    """Make the samples of a probe: of the images to learn from, and of those held out.

    Args:
        config: The run.
        splits: Its labelled images.
    """
    return ProbeImages(
        train=evaluation_samples(config, splits.train),
        test=evaluation_samples(config, splits.held_out),
        chunk_size=config.optim.micro_batch_size or min(config.optim.batch_size, 256),
        num_workers=config.data.num_workers,
        max_bad_share=config.data.allowed_bad_share,
    )
