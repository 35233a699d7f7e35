"""Time a training step with each decoder, and what the HOG target adds to it.

    python scripts/bench_decoders.py [--encoder vit_small_patch16_224] [--out decoders.json]

A step is forward and backward of one batch, without loader and optimizer. The variants are
alternated in one process; medians, and the median of the ratios to MAE's decoder, are printed.
Absolute times of a shared machine mean little: quote the ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from support.runs import facts
from support.timing import Step, alternated, median_ratio

from mae_et import MaskedAutoencoder
from mae_et.model.targets import hog

VARIANTS: dict[str, dict[str, Any]] = {
    "self 512 x 8 (MAE)": {},
    "self, half decoded": {"decode_ratio": 0.5},
    "self, quarter decoded": {"decode_ratio": 0.25},
    "cross": {"decoder": "cross"},
    "cross, half decoded": {"decoder": "cross", "decode_ratio": 0.5},
    "cross, quarter decoded": {"decoder": "cross", "decode_ratio": 0.25},
    "self 512 x 1": {"decoder_depth": 1},
    "self 512 x 8, HOG": {"target": "hog"},
}
BASELINE = next(iter(VARIANTS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="vit_small_patch16_224")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 96])
    parser.add_argument("--batch", type=int, default=8, help="images at 224; as many pixels below")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="the numbers as JSON")
    options = parser.parse_args()

    def step(model: MaskedAutoencoder, images: torch.Tensor) -> None:
        model.zero_grad()
        model(images, masked_only=True).loss.backward()

    models = {
        name: MaskedAutoencoder(options.encoder, **arguments).to(options.device)
        for name, arguments in VARIANTS.items()
    }
    rows = []
    for size in options.sizes:
        batch = options.batch * 224**2 // size**2
        images = torch.randn(batch, 3, size, size, device=options.device)
        steps: dict[str, Step] = {"HOG alone": lambda x=images: hog(x)}
        for name, model in models.items():
            model.set_input_size(size)
            steps[name] = lambda m=model, x=images: step(m, x)
        times = alternated(steps, options.rounds, options.device)
        for name, seconds in times.items():
            rows.append(
                {
                    "size": size,
                    "variant": name,
                    "ms_per_image": 1e3 * statistics.median(seconds) / batch,
                    "ratio": median_ratio(seconds, times[BASELINE]),
                }
            )
    setting = {**facts(), "device": options.device, "threads": torch.get_num_threads()}
    setting |= {"encoder": options.encoder, "batch": options.batch, "rounds": options.rounds}
    if options.out:
        options.out.write_text(json.dumps({**setting, "steps": rows}, indent=2) + "\n")
    print(setting)
    print(f"{'size':>4}  {'decoder':<24} {'ms/image':>9} {'of MAE':>7}")
    for row in rows:
        print(
            f"{row['size']:>4}  {row['variant']:<24} {row['ms_per_image']:>9.2f} "
            f"{row['ratio']:>7.1%}"
        )


if __name__ == "__main__":
    main()
