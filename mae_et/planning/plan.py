"""The plan of a run: from FLOPs alone, or from real steps on this machine."""

from __future__ import annotations

from typing import Any

from accelerate.utils import set_seed

from ..build import build_curriculum, build_on_meta, load_images
from ..config import PretrainConfig, to_dict
from ..data import check_replay, split_batch
from ..model import MaskedAutoencoder
from ..pretrain import Pretrainer
from ..training import main_process_first, make_accelerator
from .forecast import MAE_EPOCHS, Plan, full_size_steps, make_plan, with_times
from .measure import measure_steps

IMAGENET_IMAGES = 1_281_167
"""What the recipes are made for: the training images of ImageNet-1K."""


NOT_COUNTED = (
    "FLOPs are those of matrix products and convolutions of the model's forward and backward pass, "
    "a multiply-add being two; not counted: norms, softmax and other element-wise work, the "
    "optimizer, the low-frequency crop, decoding of images"
)


def describe(plan: Plan) -> str:
    """The plan as a table with its totals below."""
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
        f"speedup in FLOPs: {plan.speedup:.2f} against {plan.budget:g} epochs at full size, "
        f"{plan.mae_speedup:.2f} against {MAE_EPOCHS} epochs of MAE at {plan.mae_size}",
    ]
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


def plan_from_flops(config: PretrainConfig, options: Any) -> Plan:
    """The plan from FLOPs alone."""
    model, num_images = build_on_meta(config.model), config.data.num_images
    build_curriculum(config, model, num_steps=1_000_000)  # its errors, before data is read
    if num_images is None and (config.data.path or config.data.sources):
        num_images = len(load_images(config, model)[0])
    elif num_images is None:
        num_images = IMAGENET_IMAGES
    curriculum = build_curriculum(config, model, full_size_steps(config, num_images))
    return make_plan(
        config, model, curriculum, num_images, options.processes or 1, options.mae_size
    )


def measured_plan(config: PretrainConfig, options: Any) -> Plan | None:
    """The plan with times, in the main process."""
    config.data.check_given()
    accelerator = make_accelerator(config.run, allow_fsdp=True)
    processes = accelerator.num_processes
    set_seed(config.run.seed)
    model = MaskedAutoencoder(**to_dict(config.model))
    chunk_size = split_batch(config.optim.batch_size, config.optim.micro_batch_size, processes)
    images, held_out, curriculum = main_process_first(
        accelerator, lambda: load_images(config, model)
    )
    main_process_first(
        accelerator, lambda: check_replay(config, curriculum, chunk_size, processes, held_out)
    )
    num_images = config.data.num_images or len(images)  # measured on some, planned for all
    planned = build_curriculum(config, model, full_size_steps(config, num_images))
    plan = make_plan(  # before the steps, which take long and may put the model into shards
        config, build_on_meta(config.model), planned, num_images, processes, options.mae_size
    )
    trainer = Pretrainer(config, accelerator, model, curriculum)
    times = measure_steps(trainer, images, chunk_size, config.data.num_workers)
    if not accelerator.is_main_process:
        return None
    return with_times(plan, times, config.data.num_workers, options.price_per_hour)
