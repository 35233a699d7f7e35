"""Which samples the steps of a run take from its data, how, and which images they use again."""

from __future__ import annotations

import os
from itertools import groupby

import psutil
import torch

from .checks import check
from .config import PretrainConfig
from .curriculum import Curriculum, as_pair
from .data import ReplaySpan, SampleClock, SampleStream


def sample_clock(config: PretrainConfig, curriculum: Curriculum) -> SampleClock:
    """Which samples a step takes: all of its batch, or fewer at the sizes of `data.replay`.

    Raises:
        ValueError: a size has no stage, or a ratio does not divide the batch.
    """
    wanted = {as_pair(part.size): part for part in config.data.replay}
    sizes = [stage.size for stage in curriculum.stages]
    for pair, part in wanted.items():
        allowed = f"that of a stage ({', '.join(map(str, dict.fromkeys(sizes)))})"
        check(pair in map(as_pair, sizes), "data.replay.size", part.size, allowed)
    spans = []
    for pair, group in groupby(curriculum.stages, key=lambda stage: as_pair(stage.size)):
        stages = list(group)
        if pair in wanted:
            start, stop, part = stages[0].start, stages[-1].stop, wanted[pair]
            batches = min(part.batches, stop - start)  # more will not come
            spans.append(ReplaySpan(start=start, stop=stop, ratio=part.ratio, batches=batches))
    return SampleClock(config.optim.batch_size, spans)


def replay_spans(
    config: PretrainConfig, curriculum: Curriculum, chunk_size: int
) -> tuple[ReplaySpan, ...]:
    """The steps that use images again, in chunks of `chunk_size` images at full size.

    Raises:
        ValueError: as `sample_clock`; or a ratio does not divide the chunks.
    """
    spans = sample_clock(config, curriculum).replay
    for span in spans:
        allowed = f"a divisor of the {chunk_size} images of a micro-batch (optim.micro_batch_size)"
        check(chunk_size % span.ratio == 0, "data.replay.ratio", span.ratio, allowed)
    return spans


def check_replay(
    config: PretrainConfig,
    curriculum: Curriculum,
    chunk_size: int,
    world: int,
    images: SampleStream,
) -> None:
    """Check that micro-batches can be parted, and that this machine has memory for the buffers.

    Args:
        config: the run.
        curriculum: its stages.
        chunk_size: images that a process handles at a time at full size.
        world: processes.
        images: of the run; the first one tells the type of their pixels.

    Raises:
        ValueError: they can't, or it has not.
    """
    for span in replay_spans(config, curriculum, chunk_size):
        here = _processes_here(world) / world
        value_bytes = images[0]["image"].element_size()
        needed = here * replay_bytes(config, curriculum, span) * value_bytes
        free = psutil.virtual_memory().available
        allowed = (
            f"few enough for the {free / 2**30:.1f} GiB that are free on this machine (they need "
            f"{needed / 2**30:.1f})"
        )
        check(needed < free, "data.replay.batches", span.batches, allowed)


def _processes_here(world: int) -> int:
    """Processes on this machine: as the launcher says; without one (Slurm), one per GPU."""
    one_per_gpu = min(world, max(1, torch.cuda.device_count()))
    return int(os.environ.get("LOCAL_WORLD_SIZE", one_per_gpu))


def replay_bytes(config: PretrainConfig, curriculum: Curriculum, span: ReplaySpan) -> int:
    """Memory of the buffers of all processes together, for pixels of 8 bits."""
    is_small = config.data.downsample == "loader"
    size = curriculum.stage_at(span.start).size if is_small else curriculum.full_size
    height, width = as_pair(size)
    images = span.batches * config.optim.batch_size
    return images * config.model.in_chans * height * width


def stage_size(curriculum: Curriculum, clock: SampleClock, number: int) -> tuple[int, int]:
    """(height, width) at which sample `number` is trained."""
    return as_pair(curriculum.stage_at(clock.step_of(number)).size)


def augment_progress(curriculum: Curriculum, clock: SampleClock, number: int) -> float:
    """How far augmentation has got at sample `number`: 0 in the first stage, 1 in the last."""
    stages = curriculum.stages
    index = stages.index(curriculum.stage_at(clock.step_of(number)))
    return index / (len(stages) - 1) if len(stages) > 1 else 1.0
