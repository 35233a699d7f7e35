"""Scaling on paper: what a number of GPUs asks of loader, network and memory.

    python scripts/plan_scaling.py [--tflops 400] [--images_per_core 780] [--bandwidth 50]

Nothing is run. A GPU is assumed to sustain `--tflops` (400 is 40 % of an H100's peak in bf16) at
any size, so a stage needs that many images per second by its FLOPs per image; a core of the loader
decodes, crops and resizes `--images_per_core` of them (`scripts/bench_loader.py`). In each step,
DDP averages the gradients in fp32 with a ring, in which each GPU sends twice their size, less one
part, at `--bandwidth`; it does so during the backward pass, two thirds of the step, and waits for
what takes longer. Weights, gradients and AdamW's two averages are 16 bytes a parameter on each GPU
under DDP, and a part of them under FSDP; activations are added to that in either case.
"""

from __future__ import annotations

import argparse

from support.markdown import markdown
from support.recipes import plan_recipe

from mae_et.planning.forecast import Plan

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
            sent = 2 * (gpus - 1) / gpus * 4 * parameters
            row = [recipe, stage.size, f"{stage.gflops:.1f}", gpus, f"{rate:,.0f}"]
            row += [f"{rate / options.images_per_core:,.0f}", f"{1e3 * step:,.0f}"]
            rows.append([*row, f"{sent / options.bandwidth / 1e6:.0f}"])
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
    print(markdown(("recipe", "parameters", "state per GPU, DDP", "FSDP on 8"), memory))


if __name__ == "__main__":
    main()
