"""Scaling on paper: what loader, network and memory a number of GPUs asks for.

    python scripts/plan_scaling.py [--tflops 400] [--images_per_core 780] [--bandwidth 50]

Nothing is run. A GPU is taken to sustain `--tflops` (400 is 40 % of an H100's peak in bf16) at any
size, so a stage needs that many images per second by its FLOPs per image; a core of the loader
decodes, crops and resizes `--images_per_core` of them (`scripts/bench_loader.py`). In a step, DDP
averages the gradients in fp32 with a ring, in which each GPU sends twice their size, less one part,
at `--bandwidth`; it does so during the backward pass, two thirds of the step, and what is longer
than that is waited for. Weights, gradients and AdamW's two averages are 16 bytes a parameter on
each GPU under DDP, and a part of them under FSDP; activations come on top in either.
"""

from __future__ import annotations

import argparse

from plan_recipes import plan_recipe

from mae_et.build import build_on_meta
from mae_et.config.parser import config_parser, parse
from mae_et.config.pretrain import PretrainConfig

RECIPES = ("et_vit_b_16", "et_vit_l_16", "et_vit_h_14", "etpp_vit_b_16_hog")


def num_parameters(recipe: str) -> int:
    """Trained parameters of encoder and decoder."""
    parser = config_parser(PretrainConfig, "plan_scaling", "")
    config, _ = parse(parser, PretrainConfig, ["--config", recipe], "mae_et")
    model = build_on_meta(config.model)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tflops", type=float, default=400, help="that a GPU sustains")
    parser.add_argument("--images_per_core", type=float, default=780, help="per second")
    parser.add_argument("--bandwidth", type=float, default=50, help="GB/s of a GPU to the next")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64])
    options = parser.parse_args()

    print("| recipe | size | GFLOPs/image | GPUs | images/s | cores | step, ms | all-reduce, ms |")
    print("|---" * 8 + "|")
    sizes = {}
    for recipe in RECIPES:
        plan, sizes[recipe] = plan_recipe(recipe), num_parameters(recipe)
        for stage in plan.stages:
            for gpus in options.gpus:
                rate = gpus * options.tflops * 1e12 / (stage.gflops * 1e9)
                step = plan.batch_size / rate
                sent = 2 * (gpus - 1) / gpus * 4 * sizes[recipe]
                row = [recipe, stage.size, f"{stage.gflops:.1f}", gpus, f"{rate:,.0f}"]
                row += [f"{rate / options.images_per_core:,.0f}", f"{1e3 * step:,.0f}"]
                row.append(f"{sent / options.bandwidth / 1e6:.0f}")
                print(f"| {' | '.join(map(str, row))} |")
    print()
    print("| recipe | parameters | state per GPU, DDP | FSDP on 8 |")
    print("|---" * 4 + "|")
    for recipe, count in sizes.items():
        state = 16 * count / 2**30
        print(f"| {recipe} | {count / 1e6:.0f} M | {state:.1f} GiB | {state / 8:.1f} GiB |")


if __name__ == "__main__":
    main()
