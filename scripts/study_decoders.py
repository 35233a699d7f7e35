"""Loss curves and nearest neighbours of each decoder and target, on 10,000 small images.

    python scripts/study_decoders.py --out runs/decoders

The demo's small ViT (28 pixels, patches of 4) is pretrained under the same curriculum with each
decoder and target. Held-out losses are over all masked patches, so those of one target compare; the
nearest-neighbour accuracy of the frozen encoder (2,000 images) compares across targets. It ends
with a table, and OUT/results.json.

Stop it at any time: the same command continues, and leaves complete runs alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from support.decoders import DECODERS
from support.runs import facts, run, write_json

from mae_et.runs import Run

HOG: dict[str, Any] = {"target": "hog", "hog__cell": 2}
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: fields for name, fields in DECODERS.items() if name != "cross_half"},
    "norm_pixel": {"target": "norm_pixel"},
    "hog": HOG,
    "hog_cross_quarter": {**HOG, **DECODERS["cross_quarter"]},
}
"""Name -> fields of the model that differ from the recipe demo."""

EVALUATIONS = 6
"""Evaluations during a run, evenly spaced."""


def train(folder: Path, variant: str, epochs: int) -> list[dict[str, float]]:
    """The evaluations of a variant's run, which is run or resumed unless it is complete."""
    num_steps = round(epochs * 10_000 / 256)
    fields = {f"model__{name}": value for name, value in VARIANTS[variant].items()}
    fields |= {"optim__epochs": epochs, "optim__warmup_epochs": epochs / 6}
    fields |= {"eval__knn_every": num_steps, "eval__images": 2000}
    fields |= {"run__eval_every": max(1, num_steps // EVALUATIONS)}
    if not Run(folder).encoder.exists():
        run("mae_et", folder, "pretrain", "--config=demo", **fields)
    return [
        {key: line[key] for key in ("step", "eval_loss", "knn_top1") if key in line}
        for line in Run(folder).read_metrics()
        if "eval_loss" in line
    ]


def main() -> None:
    """Train each variant, and print its losses and its accuracy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/decoders"))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    out = options.out.resolve()
    curves = {name: train(out / name, name, options.epochs) for name in options.variants}
    write_json(out / "results.json", {"epochs": options.epochs, "curves": curves, **facts()})
    print("held-out loss after each sixth of the run, and nearest neighbours at its end")
    for name, lines in curves.items():
        losses = " ".join(f"{line['eval_loss']:.4f}" for line in lines)
        print(f"{name:<18} {losses}  {lines[-1]['knn_top1']:.1%}")


if __name__ == "__main__":
    main()
