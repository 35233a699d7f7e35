"""Plan a run from FLOPs alone, or from real steps on this machine."""

from __future__ import annotations

from collections.abc import Mapping

from accelerate import PartialState

from ..build import (
    build_curriculum,
    build_images,
    build_model,
    build_model_on_meta,
    build_on_meta,
    open_samples,
)
from ..config import PretrainConfig
from ..curriculum import Size
from ..pretraining import Pretrainer
from ..training import make_accelerator
from .forecast import PUBLISHED_EPOCHS, Plan, make_plan, with_times
from .measure import StepTime, measure_steps

IMAGENET_IMAGES = 1_281_167
"""The training images of ImageNet-1K, for which the recipes are made."""


MOST_SPEEDUP = 100
"""Up to which a run is compared with the published 1600 epochs; of a trial, that says nothing."""


NOT_COUNTED = (
    "FLOPs are those of matrix products and convolutions of the model's forward and backward pass, "
    "a multiply-add being two; not counted: norms, softmax and other element-wise work, the "
    "optimizer, the low-frequency crop, decoding of images"
)


def describe(plan: Plan) -> str:
    """Return the plan as a table with its totals below."""
    header = ["size", "grid", "patches seen", "epochs", "steps"]
    header += ["micro-batch", "GFLOPs/image", "cost"]
    rows = [
        [
            str(stage.size),
            f"{stage.grid[0]}x{stage.grid[1]}",
            f"{stage.visible}/{stage.patches}",
            f"{stage.epochs:.1f}",
            str(stage.steps),
            f"{stage.accumulation} x {stage.micro_batch}",
            f"{stage.gflops:.3g}",
            f"{stage.cost:.1%}",
        ]
        for stage in plan.stages
    ]
    if plan.hours is not None:
        header += ["hours", "time", "waiting", "images/s needed", "limit"]
        for row, stage in zip(rows, plan.stages, strict=True):
            row += [
                f"{stage.hours:.3g}",
                f"{stage.time:.1%}",
                f"{stage.waiting:.0%}",
                f"{stage.images_per_s:.0f}",
                str(stage.limit),
            ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in [header, *rows]
    ]
    lines += [
        "",
        f"{plan.steps} steps of {plan.batch_size} images by {plan.processes} "
        f"{'process' if plan.processes == 1 else 'processes'}, "
        f"{plan.epochs:.1f} passes over {plan.num_images} images, {plan.exaflops:.4g} EFLOPs",
        f"speedup in FLOPs: {plan.speedup:.2f} against {plan.budget:g} epochs at full size",
    ]
    if plan.mae_speedup < MOST_SPEEDUP:
        name = "SimMIM" if plan.method == "simmim" else "MAE"
        lines[-1] += (
            f", {plan.mae_speedup:.2f} against {PUBLISHED_EPOCHS[plan.method]} epochs of {name} at "
            f"{plan.mae_size}"
        )
    if plan.hours is not None:
        lines.append(
            f"{plan.hours:.3g} hours; speedup in time: {plan.time_speedup:.2f} against "
            f"{plan.budget:g} epochs at full size"
        )
    if plan.replay_gib:
        lines.append(f"replay buffers: {plan.replay_gib:.1f} GiB of memory over all processes")
    if plan.price is not None:
        lines.append(f"price: {plan.price:.2f}")
    return "\n".join([*lines, NOT_COUNTED])


def plan_from_flops(
    config: PretrainConfig, *, processes: int = 1, mae_size: int | None = None
) -> Plan:
    """Plan a run from FLOPs alone.

    Args:
        config: The run; without data, ImageNet-1K is assumed.
        processes: Number of processes that train.
        mae_size: Full size in pixels of the MAE to compare with; None for the run's.

    Raises:
        ValueError: The configuration or the data is bad.
    """
    model, num_images = build_model_on_meta(config), config.data.num_images
    if num_images is None and (config.data.path or config.data.sources):
        num_images = len(open_samples(config, model)[0])
    elif num_images is None:
        num_images = IMAGENET_IMAGES
    curriculum = build_curriculum(config, model, num_images)
    return make_plan(config, model, curriculum, num_images, processes, mae_size)


def measured_plan(
    config: PretrainConfig, *, mae_size: int | None = None, price_per_hour: float | None = None
) -> Plan | None:
    """Plan a run from real steps on this device and from this loader.

    Args:
        config: The run.
        mae_size: Full size in pixels of the MAE to compare with; None for the run's.
        price_per_hour: Price of an hour of all processes together; None for no price.

    Returns:
        The plan with times, in the main process; None in the others.

    Raises:
        ValueError: The configuration or the data is bad.
    """
    config.data.check_given()
    accelerator = make_accelerator(config.run, allow_fsdp=True)
    model = build_model(config)
    images, curriculum = build_images(config, model, accelerator)
    num_images = config.data.num_images or len(images.train)  # measured on some, planned for all
    planned, world = build_curriculum(config, model, num_images), accelerator.num_processes
    # Before the steps, which take long and with FSDP leave each process a part of the model.
    plan = make_plan(config, build_on_meta(config.model), planned, num_images, world, mae_size)
    trainer = Pretrainer(config, accelerator, model, curriculum)
    times = measure_steps(trainer, images)
    if not accelerator.is_main_process:
        return None
    return with_times(plan, times, config.data.num_workers, price_per_hour)


def automatic_plan(
    config: PretrainConfig,
    times: Mapping[Size, StepTime],
    *,
    mae_size: int | None = None,
    price_per_hour: float | None = None,
) -> Plan | None:
    """Plan a run whose steps have been measured.

    Args:
        config: The run.
        times: The time of a step at each size.
        mae_size: As in `measured_plan`.
        price_per_hour: As in `measured_plan`.

    Returns:
        The plan with times, in the main process; None in the others.
    """
    state = PartialState()
    if not state.is_main_process:
        return None
    plan = plan_from_flops(config, processes=state.num_processes, mae_size=mae_size)
    return with_times(plan, times, config.data.num_workers, price_per_hour)
