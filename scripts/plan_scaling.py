"""Scaling on paper: what a number of GPUs asks of loader, network and memory.

    python scripts/plan_scaling.py [--tflops 400] [--images_per_core 780] [--bandwidth 50]

Nothing is run. A GPU is assumed to sustain `--tflops` (400 is 40 % of an H100's peak in bf16) at
any size, so a stage needs that many images per second by its FLOPs per image; a core of the loader
decodes, crops and resizes `--images_per_core` of them (`scripts/bench_loader.py`). In each step,
DDP averages the gradients in fp32 with a ring, in which each GPU sends twice their size, less one
part, at `--bandwidth`; it does so during the backward pass, two thirds of the step, and waits for
what takes longer. What else a step costs, whatever its batch, is not counted. Weights, gradients
and AdamW's two averages are 16 bytes a parameter on each GPU under DDP, and a part of them under
FSDP; activations are added to that in either case.
"""

from __future__ import annotations

import argparse

from support.markdown import markdown
from support.recipes import plan_recipe, plan_supervised

from mae_et.planning.forecast import USUAL_EPOCHS, Plan

EARLY = {"none": "[]", "×4, ×2": "[{size: 96, times: 4}, {size: 160, times: 2}]"}
"""Early large batch at 96 and 160 pixels -> `optim.early_batch`."""

RECIPES = ("et_vit_b_16", "et_vit_l_16", "et_vit_h_14", "etpp_vit_b_16_hog")


def throughput_rows(
    recipe: str, plan: Plan, parameters: int, options: argparse.Namespace
) -> list[list[object]]:
    """A row per stage and number of GPUs: images, cores, and milliseconds of a step."""
    rows: list[list[object]] = []
    for stage in plan.stages:
        for gpus in options.gpus:
            rate = gpus * options.tflops * 1e12 / (stage.gflops * 1e9)
            step = plan.batch_size / rate
            exchange = exchange_seconds(gpus, parameters, options)
            row = [recipe, stage.size, f"{stage.gflops:.1f}", gpus, f"{rate:,.0f}"]
            row += [f"{rate / options.images_per_core:,.0f}", f"{1e3 * step:,.0f}"]
            rows.append([*row, f"{1e3 * exchange:.0f}"])
    return rows


def exchange_seconds(gpus: int, parameters: int, options: argparse.Namespace) -> float:
    """Seconds of an all-reduce."""
    return 2 * (gpus - 1) / gpus * 4 * parameters / float(options.bandwidth) / 1e9


def early_rows(recipe: str, gpus: int, options: argparse.Namespace) -> list[list[object]]:
    """A row without and one with an early large batch: steps, exchanges, and hours' ratio."""
    rows: list[list[object]] = []
    for name, early in EARLY.items():
        plan = plan_supervised(recipe, gpus, f"--optim.early_batch={early}")
        exchange = exchange_seconds(gpus, plan.parameters, options)

        def seconds(gflops: float, images: int, exchange: float = exchange) -> float:
            """Of a step."""
            step = images * gflops / gpus / float(options.tflops) / 1e3
            return step / 3 + max(step * 2 / 3, exchange)

        batch = plan.batch_size
        total = sum(s.steps * seconds(s.gflops, s.times * batch) for s in plan.stages)
        usual = USUAL_EPOCHS * plan.num_images / batch * seconds(plan.stages[-1].gflops, batch)
        row = [recipe, gpus, name, plan.steps, f"{plan.steps * exchange:,.0f}"]
        rows.append([*row, f"{plan.usual_speedup:.2f}", f"{usual / total:.2f}"])
    return rows


def memory_row(recipe: str, parameters: int) -> list[str]:
    """Memory for the state of training."""
    state = 16 * parameters / 2**30
    return [recipe, f"{parameters / 1e6:.0f} M", f"{state:.1f} GiB", f"{state / 8:.1f} GiB"]


def main() -> None:
    """Print what throughput and memory each recipe asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tflops", type=float, default=400, help="that a GPU sustains")
    parser.add_argument("--images_per_core", type=float, default=780, help="per second")
    parser.add_argument("--bandwidth", type=float, default=50, help="GB/s of a GPU to the next")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64])
    options = parser.parse_args()

    throughput, memory = [], []
    for recipe in RECIPES:
        plan, model = plan_recipe(recipe)
        parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        throughput += throughput_rows(recipe, plan, parameters, options)
        memory.append(memory_row(recipe, parameters))
    header = ("recipe", "size", "GFLOPs/image", "GPUs", "images/s", "cores")
    print(markdown((*header, "step, ms", "all-reduce, ms"), throughput))
    print()
    early = [
        row
        for recipe in ("etpp_cswin_tiny", "etpp_cswin_base")
        for row in early_rows(recipe, options.gpus[-1], options)
    ]
    columns = ("recipe", "GPUs", "early large batch", "steps", "exchanging, s")
    print(markdown((*columns, "speedup in FLOPs", "in time"), early))
    print()
    print(markdown(("recipe", "parameters", "state per GPU, DDP", "FSDP on 8"), memory))


if __name__ == "__main__":
    main()
