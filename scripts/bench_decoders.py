"""Time a training step with each decoder, and what the HOG target adds to it.

    python scripts/bench_decoders.py [--encoder vit_small_patch16_224] [--out decoders.json]

A step is forward and backward of one batch, without loader and optimizer. The variants are
alternated in one process; medians, and the median of the ratios to MAE's decoder ("self"), are
printed. Absolute times on a shared machine mean little: quote the ratios.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import torch
from support.decoders import DECODERS
from support.runs import facts, write_json
from support.timing import Step, alternated, median_ratio
from torch import Tensor

from mae_et import MaskedAutoencoder
from mae_et.model.targets import hog

VARIANTS: dict[str, dict[str, Any]] = {**DECODERS, "hog": {"target": "hog"}}


def train_step(model: MaskedAutoencoder, images: Tensor) -> None:
    """Forward and backward."""
    model.zero_grad()
    model(images, masked_only=True).loss.backward()


def measure(
    models: dict[str, MaskedAutoencoder], size: int, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The rows of the table for one size."""
    batch = options.batch * 224**2 // size**2
    images = torch.randn(batch, 3, size, size, device=options.device)
    steps: dict[str, Step] = {"HOG alone": partial(hog, images)}
    for name, model in models.items():
        model.set_input_size(size)
        steps[name] = partial(train_step, model, images)
    times = alternated(steps, options.rounds, options.device)
    return [
        {
            "size": size,
            "variant": name,
            "ms_per_image": 1e3 * statistics.median(seconds) / batch,
            "ratio": median_ratio(seconds, times["self"]),
        }
        for name, seconds in times.items()
    ]


def main() -> None:
    """Measure each variant at each size, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="vit_small_patch16_224")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 96])
    parser.add_argument("--batch", type=int, default=8, help="images at 224; as many pixels below")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="the numbers as JSON")
    options = parser.parse_args()
    models = {
        name: MaskedAutoencoder(options.encoder, **fields).to(options.device)
        for name, fields in VARIANTS.items()
    }
    rows = [row for size in options.sizes for row in measure(models, size, options)]
    setting = {**facts(), "device": options.device, "threads": torch.get_num_threads()}
    setting |= {"encoder": options.encoder, "batch": options.batch, "rounds": options.rounds}
    if options.out:
        write_json(options.out, {**setting, "steps": rows})
    print(setting)
    print(f"{'size':>4}  {'decoder':<24} {'ms/image':>9} {'of MAE':>7}")
    for row in rows:
        print(
            f"{row['size']:>4}  {row['variant']:<24} {row['ms_per_image']:>9.2f} "
            f"{row['ratio']:>7.1%}"
        )


if __name__ == "__main__":
    main()
