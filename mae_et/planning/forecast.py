"""Forecast what a run will cost by stage: in FLOPs, and in time once steps have been measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import groupby

from torch import nn

from ..build import build_on_meta
from ..config import ModelConfig, PretrainConfig, TrainingConfig
from ..curriculum import Curriculum, Size, as_pair, as_size, num_training_steps
from ..data import replay_bytes, replay_spans, split_batch
from ..errors import check
from ..model import MaskedModel, training_flops
from ..training import chunks_per_micro_batch
from .measure import StepTime

PUBLISHED_EPOCHS = {"mae": 1600, "hiera": 1600, "simmim": 800}
"""Epochs of the published run of each method that runs are compared with. MAE's has a decoder of
512 × 8, mask ratio 0.75 and normalised pixels; SimMIM's has mask ratio 0.6 and pixels."""

USUAL_EPOCHS = 300
"""Epochs at full size that supervised runs are compared with, as in their networks' papers."""


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """Consecutive stages of one size; times are None until steps have been measured."""

    size: Size
    grid: tuple[int, int] | None = None
    """The patches of a masked autoencoder; None for other networks."""
    visible: int | None = None
    """Number of the `patches` that the encoder sees."""
    patches: int | None = None
    epochs: float
    """Passes over the images."""
    steps: int
    times: int = 1
    """Batches of a step; more than one in an early large batch."""
    micro_batch: int
    """Images in a forward pass of a process."""
    plain_micro_batch: int | None = None
    """The same without an early large batch."""
    accumulation: int
    """Forward passes of a process per optimizer step."""
    gflops: float
    """GFLOPs per image, forward and backward."""
    cost: float
    """Share of the run's FLOPs."""
    fresh: float = 1.0
    """Share of the images that come from the loader, not from the replay buffer."""
    hours: float | None = None
    time: float | None = None
    """Share of the run's hours."""
    images_per_s: float | None = None
    """Rate at which the loader must serve all processes together so that none waits."""
    waiting: float | None = None
    """Share of the time spent waiting for images."""
    limit: str | None = None
    """The bottleneck, device or loader."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The stages of a run, and what the whole run costs."""

    num_images: int
    batch_size: int
    processes: int
    stages: list[StagePlan]
    epochs: float
    steps: int
    batches: int = 0
    """The steps that there would be without an early large batch."""
    parameters: int = 0
    """Numbers whose gradients the processes exchange in each step."""
    exaflops: float
    replay_gib: float = 0.0
    """Memory of the largest replay buffer, over all processes, for pixels of 8 bits."""
    budget: float
    """The passes at full size (`optim.epochs`) that the run is compared with."""
    speedup: float
    """FLOPs of the budget at full size, divided by those of the run."""
    mae_size: Size | None = None
    mae_speedup: float | None = None
    """FLOPs of the published epochs of the method at `mae_size` with the same encoder, divided by
    the run's; None for supervised training."""
    method: str = "mae"
    """The method, as in `model.method`."""
    usual_speedup: float | None = None
    """FLOPs of 300 epochs at full size, divided by the run's; None for pretraining."""
    hours: float | None = None
    time_speedup: float | None = None
    """Hours of the budget at full size, divided by those of the run."""
    price: float | None = None


def make_plan(
    config: PretrainConfig,
    model: MaskedModel,
    curriculum: Curriculum,
    num_images: int,
    processes: int = 1,
    mae_size: Size | None = None,
) -> Plan:
    """Plan a run, without times.

    Args:
        config: The run.
        model: Its model, on any device.
        curriculum: Its stages.
        num_images: Number of training images.
        processes: Number of processes that train.
        mae_size: Full size in pixels of the MAE to compare with; None for the run's.

    Raises:
        ValueError: The processes do not divide the batch, a ratio of replay does not divide the
            micro-batch, or `mae_size` is not a multiple of the patch.
    """
    chunk_size = split_batch(config.optim.batch_size, config.optim.micro_batch_size, processes)
    flops = cache(partial(training_flops, model))
    spans = replay_spans(config, curriculum, chunk_size)
    buffers = [replay_bytes(config, curriculum, span) for span in spans]
    mae_size = mae_size or model.full_size
    mae = _mae_of(config.model, mae_size, model)
    is_mae = mae == config.model
    mae_image = flops(mae_size) if is_mae else training_flops(build_on_meta(mae), mae_size)
    plan = plan_training(config, model, curriculum, flops, num_images, processes, chunk_size)
    ratios = {as_pair(part.size): part.ratio for part in config.data.replay}
    stages = []
    for stage in plan.stages:
        grid = model.check_input_size(stage.size)
        patches, visible = grid[0] * grid[1], model.num_visible_of(grid)
        fresh = 1 / ratios.get(as_pair(stage.size), 1)
        stages.append(replace(stage, grid=grid, visible=visible, patches=patches, fresh=fresh))
    return replace(
        plan,
        stages=stages,
        replay_gib=max(buffers, default=0) / 2**30,
        mae_size=mae_size,
        method=config.model.method,
        mae_speedup=PUBLISHED_EPOCHS[config.model.method]
        * num_images
        * mae_image
        / (plan.exaflops * 1e18),
    )


def plan_training(
    config: TrainingConfig,
    model: nn.Module,
    curriculum: Curriculum,
    flops: Callable[[Size], int],
    num_images: int,
    processes: int,
    chunk_size: int,
) -> Plan:
    """Plan a run of any network, joining consecutive stages of one size.

    Args:
        config: The run.
        model: Its network.
        curriculum: Its stages.
        flops: Size -> FLOPs of an image, forward and backward.
        num_images: Number of training images.
        processes: Number of processes that train.
        chunk_size: Images that a process handles at a time at full size.
    """
    batch_size = config.optim.batch_size
    chunks = batch_size // processes // chunk_size
    total = sum(stage.num_steps * stage.times * flops(stage.size) for stage in curriculum.stages)
    stages = []
    for size, group in groupby(curriculum.stages, key=lambda stage: stage.size):
        grouped = list(group)
        steps, times = sum(stage.num_steps for stage in grouped), grouped[0].times
        joined, plain = (
            chunks_per_micro_batch(size, curriculum.full_size, number)
            for number in (chunks * times, chunks)
        )
        stage = StagePlan(
            size=size,
            epochs=steps * times * batch_size / num_images,
            steps=steps,
            times=times,
            micro_batch=joined * chunk_size,
            plain_micro_batch=plain * chunk_size,
            accumulation=chunks * times // joined,
            gflops=flops(size) / 1e9,
            cost=steps * times * flops(size) / total,
        )
        stages.append(stage)
    batches = curriculum.batches_before(curriculum.num_steps)
    at_full_size = num_training_steps(
        epochs=config.optim.epochs, num_images=num_images, batch_size=batch_size
    )
    return Plan(
        num_images=num_images,
        batch_size=batch_size,
        processes=processes,
        stages=stages,
        epochs=batches * batch_size / num_images,
        steps=curriculum.num_steps,
        batches=batches,
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        exaflops=total * batch_size / 1e18,
        budget=config.optim.epochs,
        speedup=at_full_size * flops(curriculum.full_size) / total,
    )


def _mae_of(source: ModelConfig, size: Size, model: MaskedModel) -> ModelConfig:
    """Return the model that was published for the method, with the encoder of a model.

    A plain VisionTransformer has its own class tokens, and single patches are masked.
    """
    is_hiera, is_simmim = source.method == "hiera", source.method == "simmim"
    multiple = as_size(*model.patch_size) if source.method == "mae" else model.size_multiple
    sides = zip(as_pair(size), as_pair(multiple), strict=True)
    ok = all(side % patch == 0 for side, patch in sides)
    allowed = (
        f"a multiple of the {'patch size' if source.method == 'mae' else 'mask unit'} {multiple}"
    )
    check(ok, "--mae_size", size, allowed)
    if is_simmim:
        return replace(source, image_size=size, mask_ratio=0.6, target="pixel")
    return ModelConfig(
        method=source.method,
        mask_ratio=0.6 if is_hiera else 0.75,
        positions=source.positions,
        encoder=source.encoder,
        encoder_args=source.encoder_args,
        image_size=size,
        patch_size=source.patch_size,
        in_chans=source.in_chans,
    )


def with_times(
    plan: Plan, times: Mapping[Size, StepTime], num_workers: int, price_per_hour: float | None
) -> Plan:
    """Add to a plan what measured steps say about it.

    Args:
        plan: The plan without times.
        times: The time of a step at each size.
        num_workers: Number of loader workers.
        price_per_hour: Price of an hour of all processes together; None for no price.
    """
    total = sum(stage.steps * times[stage.size].seconds for stage in plan.stages)
    stages = []
    for stage in plan.stages:
        step = times[stage.size]
        fresh = stage.fresh * stage.times * plan.batch_size
        is_starved = step.waited > (0.1 if num_workers else 0.5) * step.seconds
        stages.append(
            replace(
                stage,
                hours=stage.steps * step.seconds / 3600,
                time=stage.steps * step.seconds / total,
                images_per_s=fresh / (step.seconds - step.waited),
                waiting=step.waited / step.seconds,
                limit="loader" if is_starved else "device",
            )
        )
    at_full_size = num_training_steps(
        epochs=plan.budget, num_images=plan.num_images, batch_size=plan.batch_size
    )
    return replace(
        plan,
        stages=stages,
        hours=total / 3600,
        price=None if price_per_hour is None else price_per_hour * total / 3600,
        time_speedup=at_full_size * times[plan.stages[-1].size].seconds / total,
    )
