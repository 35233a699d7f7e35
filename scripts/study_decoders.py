"""Loss curves and nearest neighbours of each decoder and target, on 10,000 small images.

    python scripts/study_decoders.py --out runs/decoders

The demo's small ViT (28 pixels, patches of 4) is pretrained under the same curriculum with each
decoder and target. Held-out losses are over all masked patches, so those of one target compare; the
nearest-neighbour accuracy of the frozen encoder (2,000 images) compares across targets. Ends with a
table, and OUT/results.json.

Stop it at any time: the same command goes on, with the runs that are complete left alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from support.runs import facts, run

from mae_et.runs.files import read_metrics

VARIANTS: dict[str, dict[str, Any]] = {
    "self": {},
    "self_half": {"model__decode_ratio": 0.5},
    "self_quarter": {"model__decode_ratio": 0.25},
    "cross": {"model__decoder": "cross"},
    "cross_quarter": {"model__decoder": "cross", "model__decode_ratio": 0.25},
    "one_block": {"model__decoder_depth": 1},
    "norm_pixel": {"model__target": "norm_pixel"},
    "hog": {"model__target": "hog", "model__hog__cell": 2},
    "hog_cross_quarter": {
        "model__target": "hog",
        "model__hog__cell": 2,
        "model__decoder": "cross",
        "model__decode_ratio": 0.25,
    },
}
EVALUATIONS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/decoders"))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    num_steps = round(options.epochs * 10_000 / 256)
    curves: dict[str, list[dict[str, float]]] = {}
    for name in options.variants:
        folder = options.out.resolve() / name
        fields: dict[str, object] = {**VARIANTS[name], "optim__epochs": options.epochs}
        fields |= {"optim__warmup_epochs": options.epochs / 6, "eval__knn_every": num_steps}
        fields |= {"run__eval_every": max(1, num_steps // EVALUATIONS), "eval__images": 2000}
        if not (folder / "encoder").exists():
            run("mae_et", folder, "pretrain", "--config=demo", **fields)
        curves[name] = [
            {key: line[key] for key in ("step", "eval_loss", "knn_top1") if key in line}
            for line in read_metrics(folder)
            if "eval_loss" in line
        ]
    results = {"epochs": options.epochs, "curves": curves, **facts()}
    (options.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print("held-out loss after each sixth of the run, and nearest neighbours at its end")
    for name, lines in curves.items():
        losses = " ".join(f"{line['eval_loss']:.4f}" for line in lines)
        print(f"{name:<18} {losses}  {lines[-1]['knn_top1']:.1%}")


if __name__ == "__main__":
    main()
