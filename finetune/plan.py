"""``python -m finetune plan``: what supervised training will cost, stage by stage.

FLOPs give the shares and the speedups; `--measure` adds time, from real steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

from mae_et.config.line_parser import LineParser
from mae_et.config.parser import config_parser, parse
from mae_et.config.plan_options import add_plan_options, check_plan_options
from mae_et.errors import check, forget_said

from .config import FinetuneConfig

if TYPE_CHECKING:
    from mae_et.curriculum import Size
    from mae_et.model import SizedModel
    from mae_et.planning.forecast import Plan

DESCRIPTION = """Say what a recipe (--config) will cost: FLOPs by stage, and with --measure the
hours on this device."""

FIRST = (
    *("config", "measure", "processes", "price_per_hour", "num_images", "json", "data.path"),
    *("model.encoder", "curriculum.name", "optim.epochs", "optim.batch_size"),
)
"""The options that --help shows."""

IMAGENET_CLASSES = 1000
"""The classes of ImageNet-1K, for which the recipes are made."""


def plan(arguments: Sequence[str]) -> None:
    """Run the command.

    Args:
        arguments: The command line after `plan`.

    Raises:
        ValueError: The configuration, the data or an option is bad.
    """
    forget_said()
    config, options = parse(make_parser(), FinetuneConfig, arguments, "finetune")
    check_plan_options(options, "num_images", is_measured=options.measure)
    for name in ("processes", "num_images"):
        allowed = "left out with --measure, which counts them"
        check(options[name] is None or not options.measure, f"--{name}", options[name], allowed)
    check(config.mode == "finetune", "--mode", config.mode, "finetune for a plan")
    if options.measure:
        config.data.check_given()

    from mae_et.planning.plan import show_plan
    from mae_et.training import leaving

    with leaving():
        if options.measure:
            planned = measured_plan(config, options.price_per_hour)
        else:
            planned = plan_from_flops(config, options.num_images, options.processes or 1)
        if planned is not None:
            show_plan(planned, options.json)


def make_parser() -> LineParser:
    """Make the parser of the command's options."""
    parser = config_parser(FinetuneConfig, "mae-et-finetune plan", DESCRIPTION, FIRST)
    parser.set_defaults(checkpoint="none")  # on which no cost depends
    add_plan_options(parser)
    parser.add_argument(
        "--num_images",
        type=int | None,
        help="to train on; else those of --data.path or ImageNet",
    )
    return parser


def plan_from_flops(
    config: FinetuneConfig, num_images: int | None = None, processes: int = 1
) -> Plan:
    """Plan a run from FLOPs alone.

    Args:
        config: The run; without data, ImageNet-1K is assumed.
        num_images: Number of training images; None for those of the data.
        processes: Number of processes that train.

    Raises:
        ValueError: The configuration or the data is bad.
    """
    from mae_et.planning.plan import IMAGENET_IMAGES

    from .data import load_labelled

    num_classes = IMAGENET_CLASSES
    if config.data.path is not None:
        splits = load_labelled(config.data)
        num_images, num_classes = num_images or len(splits.train), len(splits.class_names)
    return make_plan(config, num_images or IMAGENET_IMAGES, num_classes, processes)


def make_plan(config: FinetuneConfig, num_images: int, num_classes: int, processes: int) -> Plan:
    """Plan a run, without times.

    Args:
        config: The run.
        num_images: Number of training images.
        num_classes: Number of classes.
        processes: Number of processes that train.

    Raises:
        ValueError: The model can't be built, or the stages or the processes do not fit.
    """
    import torch

    from mae_et.planning.forecast import USUAL_EPOCHS, plan_training

    from .build import batch_chunk_size, build_schedule, full_size_steps
    from .model import build_classifier

    chunk_size = batch_chunk_size(config, processes)
    with torch.device("meta"):  # shapes, without memory
        model = build_classifier(config.model, [str(c) for c in range(num_classes)], "none")
        schedule = build_schedule(config, model, full_size_steps(config, num_images))
    flops = cache(partial(training_flops, model))
    plan = plan_training(config, model, schedule, flops, num_images, processes, chunk_size)
    usual = USUAL_EPOCHS * num_images * flops(schedule.full_size)
    return replace(plan, usual_speedup=usual / (plan.exaflops * 1e18))


def training_flops(model: SizedModel, size: Size) -> int:
    """Count the FLOPs of the forward and the backward pass of one image.

    Args:
        model: On the meta device.
        size: Pixels or (height, width) of the image.
    """
    import torch

    from mae_et.curriculum import as_pair
    from mae_et.model import counted_flops

    model.set_input_size(size)
    # Two, since a batch norm in training refuses one image of which it sees a single pixel.
    images = torch.empty(2, model.in_chans, *as_pair(size), device="meta")
    return counted_flops(lambda: model(images).sum().backward()) // 2


def measured_plan(config: FinetuneConfig, price_per_hour: float | None = None) -> Plan | None:
    """Plan a run from real steps on this device and from this loader.

    Args:
        config: The run.
        price_per_hour: Price of an hour of all processes together; None for no price.

    Returns:
        The plan with times, in the main process; None in the others.

    Raises:
        ValueError: The configuration or the data is bad.
    """
    from mae_et.planning.forecast import with_times
    from mae_et.planning.measure import measure_steps
    from mae_et.training import make_accelerator

    from .train import set_up

    accelerator = make_accelerator(config.run)
    trainer, images = set_up(config, accelerator)
    classes, world = len(images.class_names), accelerator.num_processes
    planned = make_plan(config, len(images.train), classes, world)
    times = measure_steps(trainer, images)
    if not accelerator.is_main_process:
        return None
    return with_times(planned, times, config.data.num_workers, price_per_hour)
