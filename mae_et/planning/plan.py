"""Plan a run from FLOPs alone, or from real steps on this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

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
from ..curriculum import Size, area
from ..pretraining import Pretrainer
from ..training import make_accelerator
from .forecast import PUBLISHED_EPOCHS, USUAL_EPOCHS, Plan, make_plan, with_times
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
    header, rows = _columns(plan)
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
        f"{plan.steps} steps of {_images_of(plan)} images by {plan.processes} "
        f"{'process' if plan.processes == 1 else 'processes'}, "
        f"{plan.epochs:.1f} passes over {plan.num_images} images, {_flops(plan.exaflops)}",
        f"speedup in FLOPs: {plan.speedup:.2f} against {plan.budget:g} epochs at full size",
    ]
    if plan.mae_speedup is not None and plan.mae_speedup < MOST_SPEEDUP:
        name = "SimMIM" if plan.method == "simmim" else "MAE"
        lines[-1] += (
            f", {plan.mae_speedup:.2f} against {PUBLISHED_EPOCHS[plan.method]} epochs of {name} at "
            f"{plan.mae_size}"
        )
    is_usual = plan.budget == USUAL_EPOCHS  # which the line begins with
    if plan.usual_speedup is not None and plan.usual_speedup < MOST_SPEEDUP and not is_usual:
        lines[-1] += f", {plan.usual_speedup:.2f} against {USUAL_EPOCHS}"
    if plan.steps < plan.batches:
        lines += _early_batch(plan)
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


def show_plan(plan: Plan, to: str | None) -> None:
    """Print a plan.

    Args:
        plan: The plan.
        to: "-" to print it as JSON, or a file for the JSON; None for the table alone.
    """
    text = json.dumps(asdict(plan), indent=1)
    print(text if to == "-" else describe(plan))
    if to is not None and to != "-":
        Path(to).write_text(text + "\n")


def _columns(plan: Plan) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of what is known of stages without measured steps."""
    is_early = plan.steps < plan.batches
    header = ["size", "grid", "patches seen"] if plan.stages[0].grid else ["size"]
    header += ["epochs", "steps", *(["batch"] if is_early else [])]
    header += ["micro-batch", "GFLOPs/image", "cost"]
    rows = []
    for stage in plan.stages:
        row = [str(stage.size)]
        if stage.grid is not None:
            row += [f"{stage.grid[0]}x{stage.grid[1]}", f"{stage.visible}/{stage.patches}"]
        row += [f"{stage.epochs:.1f}", str(stage.steps)]
        if is_early:
            row.append(str(stage.times * plan.batch_size))
        row += [f"{stage.accumulation} x {stage.micro_batch}"]
        rows.append([*row, f"{stage.gflops:.3g}", f"{stage.cost:.1%}"])
    return header, rows


def _images_of(plan: Plan) -> str:
    """Return the images of a step, as a range if they differ."""
    most = max(stage.times for stage in plan.stages) * plan.batch_size
    return f"{plan.batch_size} to {most}" if most > plan.batch_size else f"{plan.batch_size}"


def _early_batch(plan: Plan) -> list[str]:
    """Say what an early large batch changes: steps, the exchange of gradients, and memory."""
    sent = 2 * (plan.processes - 1) / plan.processes * 4 * plan.parameters / 1e12
    last = plan.stages[-1]
    full = last.micro_batch * area(last.size)
    early = [stage for stage in plan.stages if stage.times > 1]
    pixels = [
        f"{stage.micro_batch * area(stage.size) / full:.0%} "
        f"({(stage.plain_micro_batch or 0) * area(stage.size) / full:.0%}) at {stage.size}"
        for stage in early
    ]
    peak = max(stage.micro_batch * area(stage.size) / full for stage in early)
    said = f"early large batch: {plan.steps} steps in place of {plan.batches}"
    if plan.processes > 1:
        said += f"; each process sends {plan.steps * sent:.3g} TB of gradients in place of "
        said += f"{plan.batches * sent:.3g}"
    return [
        said,
        "pixels of its forward pass, and so about its memory, relative to full size (without): "
        + ", ".join(pixels)
        + ("; the peak is there, and micro-batches keep it below 105%" if peak > 1 else ""),
    ]


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


def _flops(exaflops: float) -> str:
    """Return a number of FLOPs in a unit that suits it."""
    for unit in ("EFLOPs", "PFLOPs", "TFLOPs"):
        if exaflops >= 0.1:
            return f"{exaflops:.4g} {unit}"
        exaflops *= 1000
    return f"{exaflops:.4g} GFLOPs"
